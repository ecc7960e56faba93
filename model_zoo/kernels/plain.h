// Products of blocks of 32 x 32 float32 by vectors, for processors without a matrix unit.
//
// A factor's block is a panel [depth, 32]. With AVX-512 eight rows of a result are summed up in registers; with fewer registers
// six or five, since ten sums at a time hide how long each addition takes, and the left panel lies cut into these rows.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>

#include "lanes.h"

constexpr int64_t BLOCK = 32;
constexpr int64_t WIDE = 2 * LANES;       // columns that a tile computes
constexpr bool CUT = LANES < 16;          // whether left panels lie cut
constexpr int64_t NEAR = CUT ? 4 : 1024;  // blocks of depth that are gone through at once: cut panels stay in the nearest cache

// TALL rows of C [.., WIDE], `stride` apart, = or += the product of two panels, n blocks deep.
template <bool ADD, int TALL>
void tile(const float* a, const float* b, int64_t n, float* c, int64_t stride) {
  constexpr int64_t STEP = CUT ? TALL : BLOCK;
  Lanes left[TALL] = {}, right[TALL] = {};
  for (; n > 0; --n, a += BLOCK * (BLOCK - STEP))
    for (int64_t p = 0; p < BLOCK; ++p, a += STEP, b += BLOCK) {
      const Lanes l = load(b), r = load(b + LANES);
#pragma GCC unroll 8
      for (int i = 0; i < TALL; ++i) {
        left[i] += a[i] * l;
        right[i] += a[i] * r;
      }
    }
#pragma GCC unroll 8
  for (int i = 0; i < TALL; ++i) {
    float *l = c + i * stride, *r = l + LANES;
    store(l, ADD ? load(l) + left[i] : left[i]);
    store(r, ADD ? load(r) + right[i] : right[i]);
  }
}

// Work on the rows of a block that is done by and by while another one is multiplied: the units for vectors have little to do then.
struct Meanwhile {
  const std::function<void(int64_t, int64_t)>& work;  // on the rows from the first number to below the second
  int64_t done = 0;
  void until(int64_t row) {
    if (row > done) work(std::exchange(done, row), row);
  }
};

// The same products without a matrix unit: panels of float32, [depth, 32].
namespace plain {

constexpr int64_t BYTES = BLOCK * BLOCK * 4;

constexpr Order between(int first) {
  Order order{};
  for (int i = 0; i < LANES; ++i) order[i] = first + i / 2 + i % 2 * LANES;
  return order;
}

// LANES rows, LANES columns: log2(LANES) times, the halves are laid between each other like cards.
inline void turn(Lanes rows[LANES]) {
  for (int done = 1; done < LANES; done *= 2) {
    Lanes next[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES / 2; ++i) {
      next[2 * i] = __builtin_shuffle(rows[i], rows[i + LANES / 2], between(0));
      next[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + LANES / 2], between(LANES / 2));
    }
    std::copy(next, next + LANES, rows);
  }
}

inline void along(const float* x, int64_t stride, char* out) {
  float* to = reinterpret_cast<float*>(out);
  for (int64_t i = 0; i < BLOCK; i += LANES)
    for (int64_t k = 0; k < BLOCK; k += LANES) {
      Lanes rows[LANES];
      for (int r = 0; r < LANES; ++r) {
        rows[r] = load(x + (i + r) * stride + k);
        __builtin_prefetch(x + (i + r) * stride + k + BLOCK);
      }
      turn(rows);
      for (int r = 0; r < LANES; ++r) store(to + (k + r) * BLOCK + i, rows[r]);
    }
}

inline void across(const float* x, int64_t stride, char* out) {
  for (int64_t k = 0; k < BLOCK; ++k) std::memcpy(out + k * BLOCK * 4, x + k * stride, BLOCK * 4);
}

// each(how many, first) of the rows that are summed up together.
template <class Each>
void groups(Each each) {
  if (CUT) {
    for (int64_t i = 0; i < 12; i += 6) each(std::integral_constant<int, 6>(), i);
    for (int64_t i = 12; i < BLOCK; i += 5) each(std::integral_constant<int, 5>(), i);
  } else {
    for (int64_t i = 0; i < BLOCK; i += 8) each(std::integral_constant<int, 8>(), i);
  }
}

// A panel [depth, 32] whose depths are `stride` apart, cut.
inline void cut(const float* x, int64_t stride, char* out) {
  float* to = reinterpret_cast<float*>(out);
  groups([&](auto tall, int64_t first) {
    for (int64_t k = 0; k < BLOCK; ++k, to += tall)
      if (tall <= LANES && first + LANES <= BLOCK)
        store(to, load(x + k * stride + first));  // what is too much is written over
      else
        std::memcpy(to, x + k * stride + first, tall * 4);
  });
}

inline void left_along(const float* x, int64_t stride, char* out) {
  if (!CUT) return along(x, stride, out);
  alignas(64) float turned[BLOCK * BLOCK];
  along(x, stride, reinterpret_cast<char*>(turned));
  cut(turned, BLOCK, out);
}

inline void left_across(const float* x, int64_t stride, char* out) { (CUT ? cut : across)(x, stride, out); }

// BLOCK rows of C [.., WIDE].
template <bool ADD>
void strip(const float* a, const float* b, int64_t n, float* c, int64_t stride) {
  groups([&](auto tall, int64_t first) { tile<ADD, tall>(a + first * (CUT ? BLOCK : 1), b, n, c + first * stride, stride); });
}

inline void multiply(const char* left, const char* right, int64_t depth, float* sums, int64_t stride, bool add, Meanwhile*) {
  const float *a = reinterpret_cast<const float*>(left), *b = reinterpret_cast<const float*>(right);
  for (; depth > 0; depth -= NEAR, a += NEAR * BLOCK * BLOCK, b += NEAR * BLOCK * BLOCK, add = true)
    for (int64_t j = 0; j < BLOCK; j += WIDE)
      (add ? strip<true> : strip<false>)(a, b + j, std::min(NEAR, depth), sums + j, stride);
}

}  // namespace plain
