// Factors of a product as blocks of 32 x 32, read from memory, and its results as blocks that go there.
#pragma once
#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include "plain.h"

inline int64_t blocks_of(int64_t n) { return (n + BLOCK - 1) / BLOCK; }

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
      __builtin_prefetch(from + BLOCK);
      __builtin_prefetch(from + BLOCK + 16);
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

// A product in memory, whose blocks end as value(sum, row, column). Sums that stay as they are lie where they belong, but
// those over an edge, and where sums go through the nearest cache many times (rows of memory would share a set of it);
// all others lie beside it: who reads what he has just written to memory waits for it.
template <class Value = AsItIs>
struct Output {
  float* x;
  int64_t rows, columns;
  Value value;
  static constexpr bool STAYS = std::is_same<Value, AsItIs>::value && !CUT;
  bool holds(int64_t r, int64_t c) const { return r + BLOCK <= rows && c + BLOCK <= columns; }
  Place place(int64_t r, int64_t c, float* beside) const {
    return STAYS && holds(r, c) ? Place{x + r * columns + c, columns} : Place{beside, BLOCK};
  }
  // The block's rows from `first` to below `last`.
  void finish(int64_t r, int64_t c, Place sums, int64_t first, int64_t last) const {
    if (STAYS && sums.at == x + r * columns + c) return;
    const int64_t width = std::min(BLOCK, columns - c);
    for (int64_t i = first; i < std::min(last, rows - r); ++i) {
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
  void finish(int64_t r, int64_t c, Place sums, int64_t first, int64_t last) const {
    const auto [i, at] = of.find(ACROSS ? c : r);
    return ACROSS ? each[i].finish(r, at, sums, first, last) : each[i].finish(at, c, sums, first, last);
  }
};

// The same with rows for columns.
template <class Target>
struct Turned {
  const Target& target;
  Place place(int64_t, int64_t, float* beside) const { return {beside, BLOCK}; }
  void finish(int64_t r, int64_t c, Place sums, int64_t, int64_t last) const {
    if (last < BLOCK) return;  // all of them at once
    alignas(64) float copy[BLOCK * BLOCK];
    plain::along(sums.at, sums.stride, reinterpret_cast<char*>(copy));
    const Place place = target.place(c, r, copy);
    if (place.at != copy)
      for (int64_t i = 0; i < BLOCK; ++i) std::copy(copy + i * BLOCK, copy + (i + 1) * BLOCK, place.at + i * place.stride);
    target.finish(c, r, place, 0, BLOCK);
  }
};
