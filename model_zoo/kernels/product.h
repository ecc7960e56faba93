// Products of float32 matrices in blocks of 32 x 32, whose factors are read, and whose results are written, by the caller's code:
// what stands before or after a product then costs no trip through memory.
//
// A factor is packed: the right one as a whole, the left one by groups of rows that stay in a core's cache. Every sum
// goes through its terms in the same order, however many threads there are.
// Covers: any sizes. Does not cover: half precision.
#pragma once
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>

#include "kernel.h"
#include "parts.h"

constexpr int64_t BLOCK = 32;
constexpr int64_t GROUP = 4;   // blocks of rows that a thread packs at once
constexpr int64_t DEPTH = 16;  // blocks of depth that it packs at once

inline int64_t blocks_of(int64_t n) { return (n + BLOCK - 1) / BLOCK; }

#if defined(__AVX512F__)
constexpr int LANES = 16, TALL = 8;
#elif defined(__AVX__)
constexpr int LANES = 8, TALL = 4;
#else
constexpr int LANES = 4, TALL = 4;
#endif
typedef float Lanes __attribute__((vector_size(LANES * 4)));
typedef int32_t Order __attribute__((vector_size(LANES * 4)));
constexpr int64_t WIDE = 2 * LANES;  // columns that a tile computes

inline Lanes load(const float* x) {
  Lanes found;
  std::memcpy(&found, x, sizeof found);
  return found;
}

inline void store(float* x, Lanes value) { std::memcpy(x, &value, sizeof value); }

// TALL rows of C [.., WIDE], `stride` apart, = or += the product of two panels of depth n.
template <bool ADD>
void tile(const float* a, const float* b, int64_t n, float* c, int64_t stride) {
  Lanes left[TALL] = {}, right[TALL] = {};
  for (int64_t p = 0; p < n; ++p, a += BLOCK, b += BLOCK) {
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

inline void multiply(const char* left, const char* right, int64_t depth, float* sums, int64_t stride, bool add) {
  const float *a = reinterpret_cast<const float*>(left), *b = reinterpret_cast<const float*>(right);
  for (int64_t j = 0; j < BLOCK; j += WIDE)
    for (int64_t i = 0; i < BLOCK; i += TALL) {
      float* c = sums + i * stride + j;
      if (add)
        tile<true>(a + i, b + j, depth * BLOCK, c, stride);
      else
        tile<false>(a + i, b + j, depth * BLOCK, c, stride);
    }
}

}  // namespace plain

struct Method {
  int64_t bytes;  // of a packed block
  void (*left_along)(const float*, int64_t, char*);
  void (*left_across)(const float*, int64_t, char*);
  void (*right_along)(const float*, int64_t, char*);
  void (*right_across)(const float*, int64_t, char*);
  void (*multiply)(const char*, const char*, int64_t, float*, int64_t, bool);
  bool tiles;
};

// What a thread holds while it multiplies.
struct Unit {
#ifdef HAS_PARTS
  std::optional<parts::Tiles> tiles;
  explicit Unit(const Method& with) {
    if (with.tiles) tiles.emplace();
  }
#else
  explicit Unit(const Method&) {}
#endif
};

extern bool matrix_unit;  // whether it is used where there is one

inline Method method() {
#ifdef HAS_PARTS
  if (matrix_unit && parts::allowed())
    return {parts::BYTES,          parts::along<false>,  parts::across<true>, parts::along<true>,
            parts::across<false>, parts::multiply, true};
#endif
  return {plain::BYTES, plain::along, plain::across, plain::along, plain::across, plain::multiply, false};
}

struct Free {
  void operator()(char* x) const { std::free(x); }
};

// Memory that a thread keeps for its next call.
struct Scratch {
  std::unique_ptr<char, Free> at;
  int64_t size = 0;
  char* hold(int64_t bytes) {
    if (bytes > size) {
      size = (bytes + (1 << 21) - 1) >> 21 << 21;
      at.reset(static_cast<char*>(std::aligned_alloc(1 << 21, size)));
      if (!at) throw std::bad_alloc();
    }
    return at.get();
  }
};

// Where the 32 x 32 values are that start at a row and a column.
struct View {
  const float* at;
  int64_t stride;
};

// A matrix in memory, rows `stride` apart; zeros beyond its edges.
struct Matrix {
  const float* x;
  int64_t rows, columns, stride;
  Matrix(const float* x, int64_t rows, int64_t columns) : Matrix(x, rows, columns, columns) {}
  Matrix(const float* x, int64_t rows, int64_t columns, int64_t stride) : x(x), rows(rows), columns(columns), stride(stride) {}
  int64_t row_blocks() const { return blocks_of(rows); }
  int64_t column_blocks() const { return blocks_of(columns); }
  bool holds(int64_t r, int64_t c) const { return r + BLOCK <= rows && c + BLOCK <= columns; }

  // value(x, row, column) of the block's values, in `copy` [32, 32].
  template <class Value>
  View copied(int64_t r, int64_t c, float* copy, Value value) const {
    const int64_t width = std::min(BLOCK, columns - c), height = std::min(BLOCK, rows - r);
    for (int64_t i = 0; i < height; ++i) {
      const float* from = x + (r + i) * stride + c;
      float* to = copy + i * BLOCK;
      if (width == BLOCK)
        for (int64_t j = 0; j < BLOCK; ++j) to[j] = value(from[j], r + i, c + j);
      else {
        for (int64_t j = 0; j < width; ++j) to[j] = value(from[j], r + i, c + j);
        std::fill(to + width, to + BLOCK, 0.0f);
      }
    }
    std::fill(copy + height * BLOCK, copy + BLOCK * BLOCK, 0.0f);
    return {copy, BLOCK};
  }

  View block(int64_t r, int64_t c, float* copy) const {
    if (holds(r, c)) return {x + r * stride + c, stride};
    return copied(r, c, copy, [](float value, int64_t, int64_t) { return value; });
  }
};

// Matrices under (or, ACROSS, beside) each other, each filled up to whole blocks.
template <bool ACROSS>
struct Joined {
  std::vector<Matrix> each;
  int64_t row_blocks() const { return ACROSS ? each[0].row_blocks() : total(); }
  int64_t column_blocks() const { return ACROSS ? total() : each[0].column_blocks(); }
  int64_t total() const {
    int64_t n = 0;
    for (const Matrix& m : each) n += ACROSS ? m.column_blocks() : m.row_blocks();
    return n;
  }
  // Which of them a block lies in, and where there.
  std::pair<int, int64_t> find(int64_t at) const {
    for (int i = 0;; ++i) {
      const int64_t size = BLOCK * (ACROSS ? each[i].column_blocks() : each[i].row_blocks());
      if (at < size) return {i, at};
      at -= size;
    }
  }
  View block(int64_t r, int64_t c, float* copy) const {
    const auto [i, at] = find(ACROSS ? c : r);
    return ACROSS ? each[i].block(r, at, copy) : each[i].block(at, c, copy);
  }
};

// Where a block of a product is summed up.
struct Place {
  float* at;
  int64_t stride;
};

struct AsItIs {
  float operator()(float sum, int64_t, int64_t) const { return sum; }
};

// A product in memory. Blocks are summed up where they belong, those over an edge beside it, and each ends as
// value(sum, row, column).
template <class Value = AsItIs>
struct Output {
  float* x;
  int64_t rows, columns;
  Value value;
  bool holds(int64_t r, int64_t c) const { return r + BLOCK <= rows && c + BLOCK <= columns; }
  Place place(int64_t r, int64_t c, float* beside) const {
    return holds(r, c) ? Place{x + r * columns + c, columns} : Place{beside, BLOCK};
  }
  void finish(int64_t r, int64_t c, Place sums) const {
    if (std::is_same<Value, AsItIs>::value && holds(r, c)) return;
    const int64_t width = std::min(BLOCK, columns - c), height = std::min(BLOCK, rows - r);
    for (int64_t i = 0; i < height; ++i) {
      float* to = x + (r + i) * columns + c;
      const float* from = sums.at + i * sums.stride;
      if (width == BLOCK) {
#pragma GCC ivdep
        for (int64_t j = 0; j < BLOCK; ++j) to[j] = value(from[j], r + i, c + j);
      } else {
        for (int64_t j = 0; j < width; ++j) to[j] = value(from[j], r + i, c + j);
      }
    }
  }
};

// Several products one under (or, ACROSS, beside) the other, as the matrices of a factor lie.
template <bool ACROSS, class Factor, class Value = AsItIs>
struct Outputs {
  const Factor& of;
  std::vector<Output<Value>> each;
  Place place(int64_t r, int64_t c, float* beside) const {
    const auto [i, at] = of.find(ACROSS ? c : r);
    return ACROSS ? each[i].place(r, at, beside) : each[i].place(at, c, beside);
  }
  void finish(int64_t r, int64_t c, Place sums) const {
    const auto [i, at] = of.find(ACROSS ? c : r);
    return ACROSS ? each[i].finish(r, at, sums) : each[i].finish(at, c, sums);
  }
};

// The same with rows for columns.
template <class Target>
struct Turned {
  const Target& target;
  Place place(int64_t, int64_t, float* beside) const { return {beside, BLOCK}; }
  void finish(int64_t r, int64_t c, Place sums) const {
    alignas(64) float copy[BLOCK * BLOCK];
    plain::along(sums.at, sums.stride, reinterpret_cast<char*>(copy));
    const Place place = target.place(c, r, copy);
    if (place.at != copy)
      for (int64_t i = 0; i < BLOCK; ++i) std::copy(copy + i * BLOCK, copy + (i + 1) * BLOCK, place.at + i * place.stride);
    target.finish(c, r, place);
  }
};

// out = A B. A is [rows, depth], or with `a_across` [depth, rows]; B is [depth, columns], or with `b_along` [columns,
// depth].
template <class A, class B, class Out>
void multiply(const A& a, bool a_across, const B& b, bool b_along, const Out& out) {
  const Method with = method();
  const int64_t rows = a_across ? a.column_blocks() : a.row_blocks();
  const int64_t depth = a_across ? a.row_blocks() : a.column_blocks();
  const int64_t columns = b_along ? b.row_blocks() : b.column_blocks();
  const int64_t threads = Pool::here().threads();
  static thread_local Scratch whole;
  char* right = whole.hold(columns * depth * with.bytes);
  // By rows of memory, whichever way they go.
  const int64_t pieces = b_along ? columns : depth;
  Pool::here().share(pieces, [&](int64_t piece) {
    alignas(64) float copy[BLOCK * BLOCK];
    for (int64_t other = 0; other < (b_along ? depth : columns); ++other) {
      const int64_t c = b_along ? piece : other, k = b_along ? other : piece;
      const View view = b_along ? b.block(c * BLOCK, k * BLOCK, copy) : b.block(k * BLOCK, c * BLOCK, copy);
      (b_along ? with.right_along : with.right_across)(view.at, view.stride, right + (c * depth + k) * with.bytes);
    }
  });
  const int64_t rounds = (rows + threads * GROUP - 1) / (threads * GROUP);
  const int64_t group = (rows + rounds * threads - 1) / (rounds * threads), groups = (rows + group - 1) / group;
  const int64_t cuts = std::min(columns, std::max<int64_t>(1, threads / groups));  // more threads than groups
  const int64_t chunk = (depth + (depth + DEPTH - 1) / DEPTH - 1) / ((depth + DEPTH - 1) / DEPTH);
  Pool::here().share(groups * cuts, [&](int64_t piece) {
    const int64_t top = piece / cuts * group, height = std::min(group, rows - top);
    const int64_t from = piece % cuts * columns / cuts, to = (piece % cuts + 1) * columns / cuts;
    static thread_local Scratch packed, partial;
    alignas(64) float copy[BLOCK * BLOCK];
    char* left = packed.hold(group * chunk * with.bytes);
    float* beside = reinterpret_cast<float*>(partial.hold(height * (to - from) * BLOCK * BLOCK * 4));  // most of it untouched
    const Unit unit(with);
    for (int64_t start = 0; start < depth; start += chunk) {
      const int64_t deep = std::min(chunk, depth - start);
      for (int64_t n = 0; n < height * deep; ++n) {  // by rows of memory
        const int64_t i = a_across ? n % height : n / deep, k = a_across ? n / height : n % deep;
        const int64_t r = (top + i) * BLOCK, d = (start + k) * BLOCK;
        const View view = a_across ? a.block(d, r, copy) : a.block(r, d, copy);
        (a_across ? with.left_across : with.left_along)(view.at, view.stride, left + (i * deep + k) * with.bytes);
      }
      for (int64_t c = from; c < to; ++c)
        for (int64_t i = 0; i < height; ++i) {
          const int64_t row = (top + i) * BLOCK, column = c * BLOCK;
          const Place place = out.place(row, column, beside + ((c - from) * height + i) * BLOCK * BLOCK);
          with.multiply(left + i * deep * with.bytes, right + (c * depth + start) * with.bytes, deep, place.at, place.stride, start > 0);
          if (start + deep == depth) out.finish(row, column, place);
        }
    }
  });
}
