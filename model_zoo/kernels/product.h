// Products of float32 matrices in blocks of 32 x 32, whose factors are read, and whose results are written, by the caller's code:
// what stands before or after a product then costs no trip through memory.
//
// A factor is packed: the right one as a whole, the left one by groups of rows that stay in a core's cache. Every sum
// goes through its terms in the same order, however many threads there are.
// Covers: any sizes. Does not cover: half precision.
#pragma once
#include <sys/mman.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <optional>

#include "kernel.h"
#include "matrix.h"
#include "parts.h"

constexpr int64_t DEEP = 4;    // blocks of depth from which on a matrix unit pays
constexpr int64_t STRIP = 4;   // blocks of columns that a thread takes row by row: memory is read ahead along rows
constexpr int64_t DEPTH = 16;  // blocks of depth that a thread packs at once
constexpr int64_t SMALL = 160;  // blocks of a result whose depth is summed up in parts

struct Method {
  int64_t bytes;  // of a packed block
  int64_t group;  // blocks of rows that a thread packs at once
  void (*left_along)(const float*, int64_t, char*);
  void (*left_across)(const float*, int64_t, char*);
  void (*right_along)(const float*, int64_t, char*);
  void (*right_across)(const float*, int64_t, char*);
  void (*multiply)(const char*, const char*, int64_t, float*, int64_t, bool, Meanwhile*);
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

extern int matrix_unit;  // 0: it is never used; 1: where it pays; 2: wherever there is one

// How to multiply; `deep`: whether many products are added for each result. Three parts and six products a block cost more
// than they save where few are, and a core whose other thread uses the unit, too, slows down less without it.
inline Method method([[maybe_unused]] bool deep) {
#ifdef HAS_PARTS
  if (matrix_unit + deep >= 2 && parts::allowed())
    return {parts::BYTES,       8,                    parts::along, parts::turned<parts::along>,
            parts::turned<parts::across>, parts::across, parts::multiply,     true};
#endif
  return {plain::BYTES, 4, plain::left_along, plain::left_across, plain::along, plain::across, plain::multiply, false};
}

struct Free {
  void operator()(char* x) const { std::free(x); }
};

// Memory that a thread keeps for its next call, on large pages where the system has them.
struct Scratch {
  std::unique_ptr<char, Free> at;
  int64_t size = 0;
  char* hold(int64_t bytes) {
    if (bytes > size) {
      size = (bytes + (1 << 21) - 1) >> 21 << 21;
      at.reset(static_cast<char*>(std::aligned_alloc(1 << 21, size)));
      if (!at) throw std::bad_alloc();
      madvise(at.get(), size, MADV_HUGEPAGE);
    }
    return at.get();
  }
};

// So many blocks of float32.
inline float* floats(Scratch& scratch, int64_t blocks) { return reinterpret_cast<float*>(scratch.hold(blocks * BLOCK * BLOCK * 4)); }

// The right factor as panels, one for each block of columns: by rows of memory, whichever way they go.
template <class B>
void pack_right(const B& b, bool along, const Method& with, int64_t columns, int64_t depth, char* out) {
  Pool::here().share(along ? columns : depth, [&](int64_t piece) {
    alignas(64) float copy[BLOCK * BLOCK];
    for (int64_t other = 0; other < (along ? depth : columns); ++other) {
      const int64_t c = along ? piece : other, k = along ? other : piece;
      const View view = along ? b.block(c * BLOCK, k * BLOCK, copy) : b.block(k * BLOCK, c * BLOCK, copy);
      (along ? with.right_along : with.right_across)(view.at, view.stride, out + (c * depth + k) * with.bytes);
    }
  });
}

// Blocks of the left factor, [row][depth], from row `top` and depth `start` on: by rows of memory, whichever way they go.
template <class A>
void pack_left(const A& a, bool across, const Method& with, int64_t top, int64_t height, int64_t start, int64_t deep, char* out) {
  alignas(64) float copy[BLOCK * BLOCK];
  for (int64_t n = 0; n < height * deep; ++n) {
    const int64_t i = across ? n % height : n / deep, k = across ? n / height : n % deep;
    const int64_t r = (top + i) * BLOCK, d = (start + k) * BLOCK;
    const View view = across ? a.block(d, r, copy) : a.block(r, d, copy);
    (across ? with.left_across : with.left_along)(view.at, view.stride, out + (i * deep + k) * with.bytes);
  }
}

// The sums of all parts of a product, [part][row][column] in blocks.
template <class Out>
void add_parts(float* sums, int64_t parts, int64_t rows, int64_t columns, const Out& out) {
  Pool::here().share(rows * columns, [&](int64_t block) {
    float* total = sums + block * BLOCK * BLOCK;
    for (int64_t part = 1; part < parts; ++part)
      for (int64_t i = 0; i < BLOCK * BLOCK; ++i) total[i] += total[part * rows * columns * BLOCK * BLOCK + i];
    out.finish(block / columns * BLOCK, block % columns * BLOCK, {total, BLOCK}, 0, BLOCK);
  });
}

// A product in pieces for the threads, all in blocks.
struct Pieces {
  int64_t rows, columns, depth;
  int64_t chunk;                    // of depth, that a thread packs at once
  int64_t parts = 1, part = depth;  // a small result of many terms is summed up in parts of the depth, each where its
                                    // terms are likely to lie: near the thread that made them
  int64_t group, groups;            // of rows
  int64_t cuts;                     // of the columns, where there are more threads than groups

  Pieces(int64_t rows, int64_t columns, int64_t depth, int64_t most_rows, int64_t threads)
      : rows(rows), columns(columns), depth(depth) {
    chunk = over(depth, over(depth, DEPTH));
    if (rows * columns <= SMALL && depth > chunk) parts = over(depth, chunk), part = chunk;
    group = parts > 1 ? std::min(rows, most_rows) : over(rows, over(rows, threads * most_rows) * threads);
    groups = over(rows, group);
    cuts = std::min(columns, std::max<int64_t>(1, threads / (parts * groups)));
  }
  int64_t count() const { return parts * groups * cuts; }

 private:
  static int64_t over(int64_t all, int64_t one) { return (all + one - 1) / one; }
};

// out = A B. A is [rows, depth], or with `a_across` [depth, rows]; B is [depth, columns], or with `b_along` [columns,
// depth].
template <class A, class B, class Out>
void multiply(const A& a, bool a_across, const B& b, bool b_along, const Out& out) {
  const int64_t rows = a_across ? a.column_blocks() : a.row_blocks();
  const int64_t depth = a_across ? a.row_blocks() : a.column_blocks();
  const int64_t columns = b_along ? b.row_blocks() : b.column_blocks();
  const Method with = method(depth >= DEEP);
  const Pieces pieces(rows, columns, depth, with.group, Pool::here().threads());
  static thread_local Scratch whole, apart;
  char* right = whole.hold(columns * depth * with.bytes);
  pack_right(b, b_along, with, columns, depth, right);
  const bool parted = pieces.parts > 1;
  float* parts = parted ? floats(apart, pieces.parts * rows * columns) : nullptr;
  Pool::here().share(pieces.count(), [&](int64_t piece) {
    const int64_t cut = piece % pieces.cuts, part = piece / (pieces.groups * pieces.cuts);
    const int64_t top = piece / pieces.cuts % pieces.groups * pieces.group, height = std::min(pieces.group, rows - top);
    const int64_t from = cut * columns / pieces.cuts, to = (cut + 1) * columns / pieces.cuts;
    const int64_t begin = part * pieces.part, end = std::min(depth, begin + pieces.part);
    static thread_local Scratch packed, partial;
    char* left = packed.hold(pieces.group * pieces.chunk * with.bytes);
    float* beside = floats(partial, 1 + height * (to - from));  // most of it untouched
    Place sums{};  // of a block that is to be finished while the next one is multiplied
    int64_t sums_row = 0, sums_column = 0, turn = 0;
    const std::function<void(int64_t, int64_t)> finish = [&](int64_t first, int64_t last) {
      if (sums.at) out.finish(sums_row, sums_column, sums, first, last);
    };
    const Unit unit(with);
    for (int64_t start = begin; start < end; start += pieces.chunk) {
      const int64_t deep = std::min(pieces.chunk, depth - start);
      pack_left(a, a_across, with, top, height, start, deep, left);
      for (int64_t strip = from; strip < to; strip += STRIP)
        for (int64_t n = 0, wide = std::min(STRIP, to - strip); n < height * wide; ++n, turn = 1 - turn) {
          const int64_t i = n / wide, c = strip + n % wide;
          const int64_t row = (top + i) * BLOCK, column = c * BLOCK;
          const int64_t other = deep < depth ? (c - from) * height + i : turn;  // sums that are not yet done are kept apart
          const int64_t block = (part * rows + top + i) * columns + c;
          const Place place = parted ? Place{parts + block * BLOCK * BLOCK, BLOCK} : out.place(row, column, beside + other * BLOCK * BLOCK);
          Meanwhile meanwhile{finish};
          with.multiply(left + i * deep * with.bytes, right + (c * depth + start) * with.bytes, deep, place.at, place.stride, start > begin,
                        &meanwhile);
          meanwhile.until(BLOCK);
          sums = !parted && start + deep == depth ? place : Place{};
          sums_row = row, sums_column = column;
        }
    }
    finish(0, BLOCK);
  });
  if (parted) add_parts(parts, pieces.parts, rows, columns, out);
}
