// Attention of a training step on a CPU, float32: scores, mask, softmax, dropout and mixture in one go, and its gradient.
//
// One thread takes a head of a row from end to end, BLOCK of its queries at a time; the scores of those are all that
// is ever held (Dao et al. 2022 hold less: keys go by blocks there, too). A query sees itself and as many keys before it as its
// position in the document says; keys that all of a block's queries do not see are left out. The gradient computes the
// shares again from the log of the sum of exponentials.
// Covers: any sizes. Does not cover: other masks, more threads than heads of all rows, half precision.

#include "product.h"

namespace {

constexpr float HIDDEN = -1e30f;  // a score that does not count

struct Range {
  int64_t first, last;
  int64_t length() const { return last - first; }
};

struct Sizes {
  int64_t batch, length, hidden, heads, size;
  int64_t blocks, deep;  // of BLOCK: those of the window, and of a head's size
  int64_t stride, wide;  // of a block's scores, and of its head's values

  Sizes(const Call& c, int64_t heads) : batch(c.shapes[0][0]), length(c.shapes[0][1]), hidden(c.shapes[0][2]), heads(heads) {
    size = hidden / heads;
    blocks = blocks_of(length);
    deep = blocks_of(size);
    stride = blocks * BLOCK + LANES;  // not a power of two: rows would share a set of the cache
    wide = deep * BLOCK;
  }
  int64_t at(int64_t b, int64_t a, int64_t t) const { return (b * length + t) * hidden + a * size; }
  Matrix values(const float* x, int64_t rows) const { return {x, rows, size, hidden}; }
};

// Which keys the queries of a row see.
struct Sight {
  const int32_t* positions;
  int64_t length;
  int64_t begin(int64_t t) const { return std::max<int64_t>(0, t - positions[t]); }
  // The blocks of keys that any query of a block sees.
  Range blocks(int64_t block) const {
    int64_t first = block * BLOCK;
    for (int64_t t = first; t < std::min(length, (block + 1) * BLOCK); ++t) first = std::min(first, begin(t));
    return {first / BLOCK, block + 1};
  }
  // Of a query's scores `p`, those that it does not see count no more; the rest lies, in whole vectors, in what is returned.
  Range scores(int64_t t, Range blocks, float* p) const {
    const int64_t from = begin(t), first = from / LANES * LANES, last = (t + LANES) / LANES * LANES;
    std::fill(p + blocks.first * BLOCK, p + first, 0.0f);
    std::fill(p + first, p + from, HIDDEN);
    std::fill(p + t + 1, p + last, HIDDEN);
    std::fill(p + last, p + blocks.last * BLOCK, 0.0f);
    return {first, last};
  }
};

struct Scaled : Matrix {
  float factor;
  Scaled(const Matrix& x, float factor) : Matrix(x), factor(factor) {}
  View block(int64_t r, int64_t c, float* copy) const {
    return copied(r, c, copy, [&](float value, int64_t, int64_t) { return value * factor; });
  }
};

// Panels and floats, one behind the other.
struct Room {
  char* at;
  int64_t bytes;  // of a packed block
  char* blocks(int64_t n) { return std::exchange(at, at + n * bytes); }
  float* floats(int64_t n) { return reinterpret_cast<float*>(std::exchange(at, at + (4 * n + 63) / 64 * 64)); }
};

// A matrix as panels, one for each block of its rows, or of its columns.
template <class Source>
void pack(const Source& x, bool by_rows, void (*how)(const float*, int64_t, char*), int64_t bytes, char* out) {
  alignas(64) float copy[BLOCK * BLOCK];
  const int64_t panels = by_rows ? x.row_blocks() : x.column_blocks(), depth = by_rows ? x.column_blocks() : x.row_blocks();
  for (int64_t i = 0; i < panels; ++i)
    for (int64_t k = 0; k < depth; ++k, out += bytes) {
      const View view = x.block((by_rows ? i : k) * BLOCK, (by_rows ? k : i) * BLOCK, copy);
      how(view.at, view.stride, out);
    }
}

// Panels of a block's scores, one depth or one column after the other.
void pack_scores(const float* scores, int64_t stride, Range range, void (*how)(const float*, int64_t, char*), int64_t bytes,
                 char* out) {
  for (int64_t j = range.first; j < range.last; ++j, out += bytes) how(scores + j * BLOCK, stride, out);
}

// x [D, K] of a head -> its values [K, D], H from row to row.
void put_turned(const Sizes& s, const float* x, float* out) {
  alignas(64) float turned[BLOCK * BLOCK];
  for (int64_t j = 0; j < s.length; j += BLOCK)
    for (int64_t d = 0; d < s.size; d += BLOCK) {
      plain::along(x + d * s.stride + j, s.stride, reinterpret_cast<char*>(turned));
      for (int64_t i = 0; i < std::min(BLOCK, s.length - j); ++i)
        std::copy_n(turned + i * BLOCK, std::min(BLOCK, s.size - d), out + (j + i) * s.hidden + d);
    }
}

}  // namespace

// q, k, v [B, T, H], positions [B, T] int32, seeds [B] or [1], {heads, salt, threshold}, {scale of scores, of what
// stays} -> mixture [B, T, H], logs of the sums of exponentials [B, A, T]
KERNEL(attention) {
  const Call c{params, ndims, shapes};
  const Sizes s(c, c.ints(5)[0]);
  const float *q = c.in(0), *k = c.in(1), *v = c.in(2), scale = c.in(6)[0], kept = c.in(6)[1];
  const int32_t *positions = c.ints(3), *seeds = c.ints(4), salt = c.ints(5)[1], threshold = c.ints(5)[2];
  const bool drops = threshold != INT32_MIN, shared = c.size(4) == 1;  // one seed for all rows together
  float *out = c.out(7), *logs = c.out(8);
  const Method with = method(true);
  Pool::here().share(s.batch * s.heads, [&](int64_t head) {
    const int64_t b = head / s.heads, a = head % s.heads, bytes = with.bytes;
    static thread_local Scratch memory;
    const int64_t blocks = 2 * s.blocks * s.deep + s.blocks + s.deep, floats = BLOCK * (s.stride + s.wide);
    Room room{memory.hold(blocks * bytes + 4 * floats), bytes};
    char *keys = room.blocks(s.blocks * s.deep), *values = room.blocks(s.blocks * s.deep);
    char *asks = room.blocks(s.deep), *packed = room.blocks(s.blocks);
    float *shares = room.floats(BLOCK * s.stride), *mixed = room.floats(BLOCK * s.wide);
    const Unit unit(with);
    pack(s.values(k + s.at(b, a, 0), s.length), true, with.right_along, bytes, keys);
    pack(s.values(v + s.at(b, a, 0), s.length), false, with.right_across, bytes, values);
    const int32_t offset = row_offset(seeds[shared ? 0 : b], salt);
    const Sight sight{positions + b * s.length, s.length};
    for (int64_t block = 0; block < s.blocks; ++block) {
      const int64_t first = block * BLOCK, n = std::min(BLOCK, s.length - first);
      const Range range = sight.blocks(block);
      pack(Scaled(s.values(q + s.at(b, a, first), n), scale), true, with.left_along, bytes, asks);
      for (int64_t j = range.first; j < range.last; ++j)
        with.multiply(asks, keys + j * s.deep * bytes, s.deep, shares + j * BLOCK, s.stride, false, nullptr);
      float factors[BLOCK];
      for (int64_t i = 0; i < n; ++i) {
        const int64_t t = first + i;
        float* p = shares + i * s.stride;
        const auto [start, end] = sight.scores(t, range, p);
        const float most = largest(p + start, end - start);
        float sum = 0;
        for (int64_t j = start; j < end; ++j) {
          p[j] = p[j] - most < -80.0f ? 0.0f : fast_exp(p[j] - most);
          sum += p[j];
        }
        if (drops) {
          const int32_t origin = static_cast<int32_t>((((shared ? b : 0) * s.heads + a) * s.length + t) * s.length);
          for (int64_t j = start; j < end; ++j)
            p[j] = stays(origin + static_cast<int32_t>(j), offset, threshold) ? p[j] : 0.0f;
        }
        logs[(b * s.heads + a) * s.length + t] = most + std::log(sum);
        factors[i] = (drops ? kept : 1.0f) / sum;
      }
      pack_scores(shares, s.stride, range, with.left_along, bytes, packed);
      for (int64_t d = 0; d < s.deep; ++d)
        with.multiply(packed, values + (d * s.blocks + range.first) * bytes, range.length(), mixed + d * BLOCK, s.wide, false, nullptr);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t d = 0; d < s.size; ++d)
          out[s.at(b, a, first + i) + d] = mixed[i * s.wide + d] * factors[i];
    }
  });
  return 0;
}

// dmixture, q, k, v, positions, seeds, {heads, salt, threshold}, {scale, kept}, mixture, logs -> dq, dk, dv
KERNEL(attention_grad) {
  const Call all{params, ndims, shapes}, c{params + 1, ndims + 1, shapes + 1};
  const Sizes s(c, c.ints(5)[0]);
  const float *g = all.in(0), *q = c.in(0), *k = c.in(1), *v = c.in(2), scale = c.in(6)[0];
  const float kept = c.in(6)[1], *mixture = c.in(7), *logs = c.in(8);
  const int32_t *positions = c.ints(3), *seeds = c.ints(4), salt = c.ints(5)[1], threshold = c.ints(5)[2];
  const bool drops = threshold != INT32_MIN, shared = c.size(4) == 1;  // one seed for all rows together
  float *dq = c.out(9), *dk = c.out(10), *dv = c.out(11);
  const Method with = method(true);
  Pool::here().share(s.batch * s.heads, [&](int64_t head) {
    const int64_t b = head / s.heads, a = head % s.heads, bytes = with.bytes;
    static thread_local Scratch memory;
    const int64_t blocks = 3 * s.blocks * s.deep + 4 * s.deep + 3 * s.blocks;
    const int64_t floats = BLOCK * (2 * s.stride + s.wide) + 2 * s.wide * s.stride;
    Room room{memory.hold(blocks * bytes + 4 * floats), bytes};
    char *keys = room.blocks(s.blocks * s.deep), *values = room.blocks(s.blocks * s.deep);
    char *sources = room.blocks(s.blocks * s.deep);
    char *asks = room.blocks(s.deep), *grads = room.blocks(s.deep);
    char *asks_turned = room.blocks(s.deep), *grads_turned = room.blocks(s.deep);
    char *share_panels = room.blocks(s.blocks), *dshare_panels = room.blocks(s.blocks);
    char* dshare_rows = room.blocks(s.blocks);
    float *shares = room.floats(BLOCK * s.stride), *dshares = room.floats(BLOCK * s.stride);
    float *dasks = room.floats(BLOCK * s.wide);
    float *dkeys = room.floats(s.wide * s.stride), *dvalues = room.floats(s.wide * s.stride);  // [D, K]
    std::fill(dkeys, dkeys + s.wide * s.stride, 0.0f);
    std::fill(dvalues, dvalues + s.wide * s.stride, 0.0f);
    const Unit unit(with);
    const Matrix of_keys = s.values(k + s.at(b, a, 0), s.length);
    pack(of_keys, true, with.right_along, bytes, keys);
    pack(of_keys, false, with.right_across, bytes, sources);
    pack(s.values(v + s.at(b, a, 0), s.length), true, with.right_along, bytes, values);
    const int32_t offset = row_offset(seeds[shared ? 0 : b], salt);
    const Sight sight{positions + b * s.length, s.length};
    for (int64_t block = 0; block < s.blocks; ++block) {
      const int64_t first = block * BLOCK, n = std::min(BLOCK, s.length - first);
      const Range range = sight.blocks(block);
      const int64_t origin = s.at(b, a, first);
      const Scaled ask(s.values(q + origin, n), scale);
      const Matrix grad = s.values(g + origin, n);
      pack(ask, true, with.left_along, bytes, asks);
      pack(ask, false, with.left_across, bytes, asks_turned);
      pack(grad, true, with.left_along, bytes, grads);
      pack(grad, false, with.left_across, bytes, grads_turned);
      for (int64_t j = range.first; j < range.last; ++j) {
        with.multiply(asks, keys + j * s.deep * bytes, s.deep, shares + j * BLOCK, s.stride, false, nullptr);
        with.multiply(grads, values + j * s.deep * bytes, s.deep, dshares + j * BLOCK, s.stride, false, nullptr);
      }
      for (int64_t i = 0; i < BLOCK; ++i) {
        float *p = shares + i * s.stride, *d = dshares + i * s.stride;
        if (i >= n) {
          std::fill(p + range.first * BLOCK, p + range.last * BLOCK, 0.0f);
          std::fill(d + range.first * BLOCK, d + range.last * BLOCK, 0.0f);
          continue;
        }
        const int64_t t = first + i;
        const auto [start, end] = sight.scores(t, range, p);
        std::fill(d + range.first * BLOCK, d + start, 0.0f);
        std::fill(d + end, d + range.last * BLOCK, 0.0f);
        const float log = logs[(b * s.heads + a) * s.length + t];
        float dot = 0;
        for (int64_t j = 0; j < s.size; ++j) dot += g[origin + i * s.hidden + j] * mixture[origin + i * s.hidden + j];
        if (drops) {
          const float stayed = kept;  // a copy that no store can change: the loop goes by vectors
          const int32_t place = static_cast<int32_t>((((shared ? b : 0) * s.heads + a) * s.length + t) * s.length);
          for (int64_t j = start; j < end; ++j) {
            const float x = p[j] - log, e = x < -80.0f ? 0.0f : fast_exp(x);
            const float keeps = stays(place + static_cast<int32_t>(j), offset, threshold) ? stayed : 0.0f;
            d[j] = e * (keeps * d[j] - dot);
            p[j] = e * keeps;
          }
        } else {
          for (int64_t j = start; j < end; ++j) {
            const float x = p[j] - log, e = x < -80.0f ? 0.0f : fast_exp(x);
            d[j] = e * (d[j] - dot);
            p[j] = e;
          }
        }
      }
      pack_scores(dshares, s.stride, range, with.left_along, bytes, dshare_rows);
      pack_scores(dshares, s.stride, range, with.right_across, bytes, dshare_panels);
      pack_scores(shares, s.stride, range, with.right_across, bytes, share_panels);
      for (int64_t d = 0; d < s.deep; ++d) {
        with.multiply(dshare_rows, sources + (d * s.blocks + range.first) * bytes, range.length(), dasks + d * BLOCK, s.wide, false, nullptr);
        for (int64_t j = range.first; j < range.last; ++j) {
          const int64_t panel = (j - range.first) * bytes, at = d * BLOCK * s.stride + j * BLOCK;
          with.multiply(asks_turned + d * bytes, dshare_panels + panel, 1, dkeys + at, s.stride, true, nullptr);
          with.multiply(grads_turned + d * bytes, share_panels + panel, 1, dvalues + at, s.stride, true, nullptr);
        }
      }
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < s.size; ++j) dq[origin + i * s.hidden + j] = dasks[i * s.wide + j] * scale;
    }
    put_turned(s, dkeys, dk + s.at(b, a, 0));
    put_turned(s, dvalues, dv + s.at(b, a, 0));
  });
  return 0;
}
