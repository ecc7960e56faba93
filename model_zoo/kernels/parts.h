// Float32 products on the matrix unit of x86 processors (AMX), which multiplies bfloat16 and adds in float32.
//
// A float32 is the sum of three bfloat16 to the last bit; of the nine products of two such sums, the six largest are
// added, smallest first: what is left out is below 2^-24 of a product (Henry, Tang and Heinecke 2019, "Leveraging the
// bfloat16 artificial intelligence datatype for higher-precision computations").
// Covers: numbers below 3.38e38. Does not cover: denormal ones, which count as 0; an infinity, which becomes not a number.
#pragma once
#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__AVX512BF16__) && defined(__linux__)
#define HAS_PARTS 1
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace parts {

constexpr int64_t TILE = 1024;                // bytes: 16 rows of 64
constexpr int64_t BYTES = 6 * TILE;           // of a packed block: [part][half][16][64]

// Linux wants to be asked before a process uses the tiles.
inline bool allowed() {
  constexpr int REQUEST = 0x1023, TILE_DATA = 18;
  static const bool yes = syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
  return yes;
}

struct Tiles {
  struct alignas(64) Shape {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  Tiles() {
    const Shape shape;
    _tile_loadconfig(&shape);
  }
  ~Tiles() { _tile_release(); }
};

// A tile of 16 x 16 pairs, rows for columns.
inline void turn(const __m512i in[16], char* out) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_epi32(in[i], in[i + 1]);
    a[i + 1] = _mm512_unpackhi_epi32(in[i], in[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; ++j) {
      b[i + 2 * j] = _mm512_unpacklo_epi64(a[i + j], a[i + 2 + j]);
      b[i + 2 * j + 1] = _mm512_unpackhi_epi64(a[i + j], a[i + 2 + j]);
    }
  for (int j = 0; j < 4; ++j) {
    const __m512i low = _mm512_shuffle_i32x4(b[j], b[4 + j], 0x88), high = _mm512_shuffle_i32x4(b[j], b[4 + j], 0xdd);
    const __m512i low2 = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0x88);
    const __m512i high2 = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0xdd);
    _mm512_store_si512(out + 64 * j, _mm512_shuffle_i32x4(low, low2, 0x88));
    _mm512_store_si512(out + 64 * (j + 8), _mm512_shuffle_i32x4(low, low2, 0xdd));
    _mm512_store_si512(out + 64 * (j + 4), _mm512_shuffle_i32x4(high, high2, 0x88));
    _mm512_store_si512(out + 64 * (j + 12), _mm512_shuffle_i32x4(high, high2, 0xdd));
  }
}

inline __m512 widened(__m256i halves) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

// A block of 32 x 32 values whose depth goes along its rows; turned, for the right factor.
template <bool TURNED>
void along(const float* x, int64_t stride, char* out) {
  for (int half = 0; half < 2; ++half) {
    __m512i rows[3][16];
    for (int i = 0; i < 16; ++i) {
      const float* row = x + (16 * half + i) * stride;
      __m512 first = _mm512_loadu_ps(row), second = _mm512_loadu_ps(row + 16);
      _mm_prefetch(row + 32, _MM_HINT_T0);
      _mm_prefetch(row + 48, _MM_HINT_T0);
      for (int part = 0; part < 3; ++part) {
        const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(second, first);
        if (TURNED)
          rows[part][i] = both;
        else
          _mm512_store_si512(out + (2 * part + half) * TILE + 64 * i, both);
        if (part == 2) break;
        first = _mm512_sub_ps(first, widened(_mm512_castsi512_si256(both)));
        second = _mm512_sub_ps(second, widened(_mm512_extracti64x4_epi64(both, 1)));
      }
    }
    if (TURNED)
      for (int part = 0; part < 3; ++part) turn(rows[part], out + (2 * part + half) * TILE);
  }
}

// The same where the depth goes across the rows; turned, for the left factor.
template <bool TURNED>
void across(const float* x, int64_t stride, char* out) {
  for (int half = 0; half < 2; ++half) {
    __m512i rows[3][16];
    for (int i = 0; i < 16; ++i) {
      const float* row = x + 2 * i * stride + 16 * half;
      __m512 first = _mm512_loadu_ps(row), second = _mm512_loadu_ps(row + stride);
      _mm_prefetch(row + 32, _MM_HINT_T0);
      _mm_prefetch(row + stride + 32, _MM_HINT_T0);
      for (int part = 0; part < 3; ++part) {
        const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(first));
        const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(second)), 16);
        if (TURNED)
          rows[part][i] = _mm512_or_si512(low, high);
        else
          _mm512_store_si512(out + (2 * part + half) * TILE + 64 * i, _mm512_or_si512(low, high));
        if (part == 2) break;
        first = _mm512_sub_ps(first, _mm512_castsi512_ps(_mm512_slli_epi32(low, 16)));
        second = _mm512_sub_ps(second, _mm512_castsi512_ps(high));
      }
    }
    if (TURNED)
      for (int part = 0; part < 3; ++part) turn(rows[part], out + (2 * part + half) * TILE);
  }
}

// sums [32, 32], rows `stride` apart, = or += the product of `depth` blocks of a left and a right panel.
inline void multiply(const char* a, const char* b, int64_t depth, float* sums, int64_t stride, bool add) {
  float* below = sums + 16 * stride;
  if (add) {
    _tile_loadd(0, sums, 4 * stride);
    _tile_loadd(1, sums + 16, 4 * stride);
    _tile_loadd(2, below, 4 * stride);
    _tile_loadd(3, below + 16, 4 * stride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
#define LEFT(part)                             \
  _tile_loadd(4, a + 2 * (part) * TILE, 64);   \
  _tile_loadd(5, a + (2 * (part) + 1) * TILE, 64)
#define RIGHT(part)                            \
  _tile_loadd(6, b + 2 * (part) * TILE, 64);   \
  _tile_loadd(7, b + (2 * (part) + 1) * TILE, 64)
#define PRODUCT             \
  _tile_dpbf16ps(0, 4, 6);  \
  _tile_dpbf16ps(1, 4, 7);  \
  _tile_dpbf16ps(2, 5, 6);  \
  _tile_dpbf16ps(3, 5, 7)
  for (int64_t k = 0; k < depth; ++k, a += BYTES, b += BYTES) {
    LEFT(0);
    RIGHT(2);
    PRODUCT;
    RIGHT(1);
    PRODUCT;
    LEFT(1);
    PRODUCT;
    RIGHT(0);
    PRODUCT;
    LEFT(2);
    PRODUCT;
    LEFT(0);
    PRODUCT;
  }
#undef LEFT
#undef RIGHT
#undef PRODUCT
  _tile_stored(0, sums, 4 * stride);
  _tile_stored(1, sums + 16, 4 * stride);
  _tile_stored(2, below, 4 * stride);
  _tile_stored(3, below + 16, 4 * stride);
}

}  // namespace parts
#endif
