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

#include "plain.h"

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
    static constexpr Shape SHAPE;  // GCC is told of the first eight bytes alone: it would not write the others of a local one
    _tile_loadconfig(&SHAPE);
  }
  ~Tiles() { _tile_release(); }
};

// Numbers as sums of three bfloat16, the first two rounded: of `low` in the lower halves, of `high` in the upper ones.
inline void split(__m512 low, __m512 high, char* out) {
  const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  for (int part = 0; part < 2; ++part, out += 2 * TILE) {
    const __m512i above = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(high), half), upper);
    const __m512i both = _mm512_or_si512(above, _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(low), half), 16));
    _mm512_store_si512(out, both);
    high = _mm512_sub_ps(high, _mm512_castsi512_ps(above));
    low = _mm512_sub_ps(low, _mm512_castsi512_ps(_mm512_slli_epi32(both, 16)));
  }
  const __m512i last = _mm512_and_si512(_mm512_castps_si512(high), upper);  // all that is left
  _mm512_store_si512(out, _mm512_or_si512(last, _mm512_srli_epi32(_mm512_castps_si512(low), 16)));
}

// A block of 32 x 32 values whose depth goes along its rows; k and k + 16 are a pair.
inline void along(const float* x, int64_t stride, char* out) {
  for (int i = 0; i < 32; ++i, x += stride) {
    _mm_prefetch(x + 32, _MM_HINT_T0);
    _mm_prefetch(x + 48, _MM_HINT_T0);
    split(_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16), out + i / 16 * TILE + i % 16 * 64);
  }
}

// The same where the depth goes across the rows.
inline void across(const float* x, int64_t stride, char* out) {
  for (int k = 0; k < 16; ++k, x += stride) {
    const float* other = x + 16 * stride;
    _mm_prefetch(x + 32, _MM_HINT_T0);
    _mm_prefetch(x + 48, _MM_HINT_T0);
    _mm_prefetch(other + 32, _MM_HINT_T0);
    _mm_prefetch(other + 48, _MM_HINT_T0);
    for (int half = 0; half < 2; ++half)
      split(_mm512_loadu_ps(x + 16 * half), _mm512_loadu_ps(other + 16 * half), out + half * TILE + 64 * k);
  }
}

// A left factor's block whose depth goes across its rows, and a right one's that it goes along.
template <void (*pack)(const float*, int64_t, char*)>
inline void turned(const float* x, int64_t stride, char* out) {
  alignas(64) float copy[BLOCK * BLOCK];
  plain::along(x, stride, reinterpret_cast<char*>(copy));
  pack(copy, BLOCK, out);
}

// sums [32, 32], rows `stride` apart, = or += the product of `depth` blocks of a left and a right panel.
inline void multiply(const char* a, const char* b, int64_t depth, float* sums, int64_t stride, bool add, Meanwhile* meanwhile) {
  asm volatile("" ::: "memory");  // GCC does not know that tiles are read from memory: what was written must lie there
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
    if (meanwhile) meanwhile->until((k + 1) * BLOCK / depth);
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
