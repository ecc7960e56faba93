// What every kernel here needs: the tensors of a call, loops over them, the exponential and the hash of dropout.
// Covers: float32 and int32, contiguous. Does not cover: pieces whose order matters; every sum goes by blocks of a fixed
// size, so results do not depend on the number of threads.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "lanes.h"
#include "pool.h"

constexpr int64_t ROWS = 64;  // rows of a block whose column sums are taken together
constexpr int64_t PIECE = 16384;  // values of a piece that one thread takes

struct Call {
  void** params;
  int* ndims;
  int64_t** shapes;
  const float* in(int i) const { return static_cast<const float*>(params[i]); }
  const int32_t* ints(int i) const { return static_cast<const int32_t*>(params[i]); }
  float* out(int i) const { return static_cast<float*>(params[i]); }
  int64_t last(int i) const { return shapes[i][ndims[i] - 1]; }
  int64_t size(int i) const {
    int64_t n = 1;
    for (int d = 0; d < ndims[i]; ++d) n *= shapes[i][d];
    return n;
  }
  int64_t rows(int i) const { return size(i) / last(i); }
};

constexpr float LOG2_E = 1.44269504f;

// 2^x for x within -126 and 126, and of those bounds beyond: relative error below 2.5e-7. The polynomial, between -1/2 and 1/2,
// has the least largest error of its degree.
inline float power_of_two(float x) {
  x = std::min(std::max(x, -126.0f), 126.0f);
  const float n = std::nearbyint(x), r = x - n;
  float p = 1.320298232e-3f;
  p = p * r + 9.674951930e-3f;
  p = p * r + 5.551047383e-2f;
  p = p * r + 2.402216601e-1f;
  p = p * r + 6.931465959e-1f;
  p = p * r + 1.0f;
  uint32_t bits;
  std::memcpy(&bits, &p, 4);
  bits += static_cast<uint32_t>(static_cast<int32_t>(n)) << 23;
  std::memcpy(&p, &bits, 4);
  return p;
}

// exp for arguments within -87 and 87: relative error below 1.5e-7 (1 + |x|), most of it what rounding LOG2_E * x costs.
inline float fast_exp(float x) { return power_of_two(LOG2_E * x); }

// The largest of n >= 1 values; those that are not a number count only where they come first.
inline float largest(const float* x, int64_t n) {
  float most = x[0];
  Lanes found = {};
  found += most;
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    const Lanes values = load(x + i);
    found = values > found ? values : found;
  }
  for (; i < n; ++i) most = x[i] > most ? x[i] : most;
  for (int lane = 0; lane < LANES; ++lane) most = found[lane] > most ? found[lane] : most;
  return most;
}

// 1 / (1 + exp(-1.702 x))
inline float gate(float x) { return 1.0f / (1.0f + power_of_two(-1.702f * LOG2_E * x)); }

inline float gelu(float x) { return x * gate(x); }

inline float gelu_slope(float x) {
  const float s = gate(x);
  return s * (1.0f + 1.702f * x * (1.0f - s));
}

// The hash of layers.py's HashedBits: whether value `index` of a row stays.
inline bool stays(int32_t index, int32_t offset, int32_t threshold) {
  uint32_t h = static_cast<uint32_t>(index) * 747796405u + static_cast<uint32_t>(offset);
  h = (h ^ static_cast<uint32_t>(static_cast<int32_t>(h) >> 16)) * 569420461u;
  h = (h ^ static_cast<uint32_t>(static_cast<int32_t>(h) >> 15)) * 1935289751u;
  return static_cast<int32_t>(h) >= threshold;
}

inline int32_t row_offset(int32_t seed, int32_t salt) {
  return static_cast<int32_t>(static_cast<uint32_t>(seed) * 277803737u + static_cast<uint32_t>(salt));
}

// out[c] = sum over the rows of what `fill(first, last, sums)` adds for a block of rows; the blocks' order is fixed.
template <class Fill>
void column_sums(int64_t rows, int64_t width, float* out, Fill fill) {
  const int64_t blocks = (rows + ROWS - 1) / ROWS;
  std::vector<float> partial(blocks * width);
  Pool::here().share(blocks, [&](int64_t b) {
    fill(b * ROWS, std::min(rows, (b + 1) * ROWS), partial.data() + b * width);
  });
  std::fill(out, out + width, 0.0f);
  for (int64_t b = 0; b < blocks; ++b)
    for (int64_t c = 0; c < width; ++c) out[c] += partial[b * width + c];
}

// each(row) for every row of `width` values.
template <class Each>
void share_rows(int64_t rows, int64_t width, Each each) {
  const int64_t step = std::max<int64_t>(1, PIECE / width);
  Pool::here().share((rows + step - 1) / step, [&](int64_t piece) {
    for (int64_t r = piece * step; r < std::min(rows, (piece + 1) * step); ++r) each(r);
  });
}

// each(piece, which, first, last) for every piece of the tensors at params[0 .. tensors - 1].
template <class Each>
void share_tensors(const Call& c, int tensors, Each each) {
  std::vector<std::pair<int, int64_t>> pieces;
  for (int i = 0; i < tensors; ++i)
    for (int64_t first = 0; first < c.size(i); first += PIECE) pieces.emplace_back(i, first);
  Pool::here().share(pieces.size(), [&](int64_t piece) {
    const auto [i, first] = pieces[piece];
    each(piece, i, first, std::min(c.size(i), first + PIECE));
  });
}

#define KERNEL(name)                                                                          \
  extern "C" int name([[maybe_unused]] int total, void** params, int* ndims, int64_t** shapes, \
                      const char**, void*, void*)
