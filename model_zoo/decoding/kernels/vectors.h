// Sixteen floats at a time, in the compiler's own vector types: AVX-512, AVX2 and NEON alike. Where many must stay in
// registers, they go by what one register holds.
// Covers: sums across lanes, exp and the three kinds of GELU within a few units of float32's last place.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#ifdef __AVX2__
#include <immintrin.h>
#endif

constexpr int LANES = 16;
#if defined(__AVX512F__)
constexpr int WIDTH = 16;  // of a register
#elif defined(__AVX__)
constexpr int WIDTH = 8;
#else
constexpr int WIDTH = 4;
#endif
typedef float Register __attribute__((vector_size(4 * WIDTH)));
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));

inline Floats load(const float* from) {
    Floats values;
    std::memcpy(&values, from, sizeof values);
    return values;
}

inline Register load_register(const float* from) {
    Register values;
    std::memcpy(&values, from, sizeof values);
    return values;
}

inline Register load_register(const int8_t* from) {
#if defined(__AVX512F__)  // GCC 12 does not find these by itself
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
#elif defined(__AVX2__)
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
#else
    Register values;
    for (int lane = 0; lane < WIDTH; ++lane) values[lane] = from[lane];
    return values;
#endif
}

// Keeps a value in a register, where the compiler would read it from memory for each use.
inline void keep([[maybe_unused]] Register& value) {
#ifdef __AVX__
    asm("" : "+v"(value));
#endif
}

inline void store(float* to, Floats values) { std::memcpy(to, &values, sizeof values); }

inline Floats all(float value) { return Floats{} + value; }

inline Floats max(Floats a, Floats b) { return a > b ? a : b; }

inline Ints lane_numbers() { return Ints{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }

// Lane j: a[j] + a[j ^ STRIDE] where bit STRIDE of j is 0, the same of b where it is 1.
template <int STRIDE, typename Vector>
inline Vector add_pairs(Vector a, Vector b) {
    constexpr int COUNT = sizeof(Vector) / 4;
    using Places = decltype(a < b);  // as many whole numbers
    Places kept, other;
    for (int lane = 0; lane < COUNT; ++lane) {
        kept[lane] = lane + (lane & STRIDE ? COUNT : 0);
        other[lane] = (lane ^ STRIDE) + (lane & STRIDE ? COUNT : 0);
    }
    return __builtin_shuffle(a, b, kept) + __builtin_shuffle(a, b, other);
}

// COUNT vectors (1, or 4, 8 ... up to their number of lanes) -> lane j: the sum over all lanes of vector j % COUNT.
template <int COUNT, typename Vector, int STRIDE = sizeof(Vector) / 8>
inline Vector sums(const Vector* parts) {
    if constexpr (STRIDE == 0) {
        return parts[0];
    } else if constexpr (STRIDE >= COUNT) {
        const Vector half = sums<COUNT, Vector, STRIDE / 2>(parts);
        return add_pairs<STRIDE>(half, half);
    } else {
        return add_pairs<STRIDE>(sums<STRIDE, Vector, STRIDE / 2>(parts), sums<STRIDE, Vector, STRIDE / 2>(parts + STRIDE));
    }
}

// 2^n times a polynomial in the remainder, |remainder| <= ln(2) / 2 (Cody and Waite 1980).
inline Floats exp(Floats x) {
    x = x < -87.0f ? all(-87.0f) : x;
    x = x > 88.0f ? all(88.0f) : x;
    const Floats shift = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
    const Floats n = (x * 1.44269504f + shift) - shift;
    const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    Floats p = all(1.0f / 5040);
    for (float inverse_factorial : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f})
        p = p * r + inverse_factorial;
    const Ints power = (__builtin_convertvector(n, Ints) + 127) << 23;
    Floats factor;
    std::memcpy(&factor, &power, sizeof factor);
    return p * factor;
}

// Abramowitz and Stegun 7.1.26, within 1.5e-7.
inline Floats erf(Floats x) {
    const Floats size = x < 0.0f ? -x : x;
    const Floats t = 1.0f / (1.0f + 0.3275911f * size);
    Floats p = all(1.061405429f);
    for (float factor : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f}) p = p * t + factor;
    const Floats value = 1.0f - p * t * exp(-size * size);
    return x < 0.0f ? -value : value;
}

enum Activation : int32_t { NONE = 0, FAST_GELU = 1, GELU = 2, GELU_TANH = 3 };

inline Floats activated(Floats x, int32_t activation) {
    switch (activation) {
        case FAST_GELU: return x / (1.0f + exp(-1.702f * x));
        case GELU: return x * (erf(x * 0.70710678f) + 1.0f) * 0.5f;
        // 0.5 (1 + tanh(u)) = 1 / (1 + exp(-2u))
        case GELU_TANH: return x / (1.0f + exp(-1.59576912f * (x + 0.044715f * x * x * x)));
        default: return x;
    }
}
