// Attention of a training step on a CPU, float32: scores, mask, softmax, dropout and mixture in one go, and its gradient.
//
// One thread takes a head of a row from end to end, QUERIES of its queries at a time; the scores of those are all that
// is ever held (Dao et al. 2022 hold less: keys go by blocks there, too). Keys that the mask hides from all of them are
// left out. The gradient computes the shares again from the log of the sum of exponentials.
// Covers: any sizes; every query sees a key. Does not cover: more threads than heads of all rows, half precision.

#include "product.h"

namespace {

constexpr int64_t QUERIES = 32;       // of a block
constexpr float HIDDEN = -5000.0f;    // what is added to a score that must not count is below

int64_t up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// A head's values [n, D], rows `stride` apart, as panels: [D / WIDE, n, WIDE], zeros beyond D and n.
void pack(const float* x, int64_t n, int64_t size, int64_t stride, int64_t rows, float factor, float* out) {
  for (int64_t d = 0; d < size; d += WIDE)
    for (int64_t i = 0; i < rows; ++i, out += WIDE) {
      const int64_t width = i < n ? std::min(WIDE, size - d) : 0;
      for (int64_t k = 0; k < width; ++k) out[k] = x[i * stride + d + k] * factor;
      std::fill(out + width, out + WIDE, 0.0f);
    }
}

// The same transposed: [n / WIDE, D, WIDE].
void pack_transposed(const float* x, int64_t n, int64_t size, int64_t stride, float* out) {
  for (int64_t i = 0; i < n; i += WIDE, out += size * WIDE) {
    const int64_t width = std::min(WIDE, n - i);
    if (width < WIDE) std::fill(out, out + size * WIDE, 0.0f);
    for (int64_t k = 0; k < width; ++k)
      for (int64_t d = 0; d < size; ++d) out[d * WIDE + k] = x[(i + k) * stride + d];
  }
}

struct Range {
  int64_t first, last;
};

struct Sizes {
  int64_t batch, queries, keys, hidden, heads, size, blocks;
  int64_t wide_keys, wide_size, stride;  // as panels; of a block's scores

  Sizes(const Call& c, int64_t heads)
      : batch(c.shapes[0][0]), queries(c.shapes[0][1]), keys(c.shapes[1][1]), hidden(c.shapes[0][2]), heads(heads) {
    size = hidden / heads;
    blocks = (queries + QUERIES - 1) / QUERIES;
    wide_keys = up(keys, WIDE);
    wide_size = up(size, WIDE);
    stride = wide_keys + LANES;  // not a power of two: rows would share a set of the cache
  }
  int64_t at(int64_t b, int64_t a, int64_t t, int64_t length) const { return (b * length + t) * hidden + a * size; }
};

// For every block of queries, the keys that any of its queries sees, in whole panels.
std::vector<Range> seen(const Sizes& s, const float* mask) {
  std::vector<Range> ranges(s.batch * s.blocks);
  Pool::here().share(s.batch * s.blocks, [&](int64_t block) {
    const int64_t b = block / s.blocks, t = block % s.blocks * QUERIES;
    int64_t first = s.keys, last = 0;
    for (int64_t q = t; q < std::min(s.queries, t + QUERIES); ++q) {
      const float* m = mask + (b * s.queries + q) * s.keys;
      int64_t k = 0, end = s.keys;
      while (k < first && m[k] <= HIDDEN) ++k;
      first = k;
      while (end > last && m[end - 1] <= HIDDEN) --end;
      last = end;
    }
    ranges[block] = {first / WIDE * WIDE, up(std::max(first + 1, last), WIDE)};
  });
  return ranges;
}

// Rows [0, QUERIES) of `out` = A B for the panels of keys in `range`; A [QUERIES, D] as packed panels of its own.
void scores(const Sizes& s, const float* a, const float* panels, Range range, float* out) {
  for (int64_t k = range.first; k < range.last; k += WIDE)
    for (int64_t i = 0; i < QUERIES; i += TALL)
      tile<false>(a + i * s.wide_size, s.wide_size, 1, panels + k * s.size, WIDE, s.size, out + i * s.stride + k, s.stride);
}

// Queries of a block, rows together: [QUERIES, wide_size], zeros beyond the last.
void rows_of(const Sizes& s, const float* x, int64_t n, float factor, float* out) {
  for (int64_t i = 0; i < QUERIES; ++i)
    for (int64_t d = 0; d < s.wide_size; ++d)
      out[i * s.wide_size + d] = i < n && d < s.size ? x[i * s.hidden + d] * factor : 0.0f;
}

}  // namespace

// q [B, T, H], k, v [B, K, H], mask [B, 1, T, K] (added), seeds [B] or [1], {heads, salt, threshold}, {scale of scores, of what
// stays} -> mixture [B, T, H], logs of the sums of exponentials [B, A, T]
KERNEL(attention) {
  const Call c{params, ndims, shapes};
  const Sizes s(c, c.ints(5)[0]);
  const float *q = c.in(0), *k = c.in(1), *v = c.in(2), *mask = c.in(3), scale = c.in(6)[0], kept = c.in(6)[1];
  const int32_t *seeds = c.ints(4), salt = c.ints(5)[1], threshold = c.ints(5)[2];
  const bool drops = threshold != INT32_MIN, shared = c.size(4) == 1;  // one seed for all rows together
  float *out = c.out(7), *logs = c.out(8);
  const std::vector<Range> ranges = seen(s, mask);
  Pool::here().share(s.batch * s.heads, [&](int64_t head) {
    const int64_t b = head / s.heads, a = head % s.heads;
    thread_local std::vector<float> keys, values, asks, shares, mixed;
    keys.resize(s.wide_keys * s.size);
    values.resize(s.wide_keys * s.wide_size);
    asks.resize(QUERIES * s.wide_size);
    shares.resize(QUERIES * s.stride);
    mixed.resize(QUERIES * s.wide_size);
    pack_transposed(k + s.at(b, a, 0, s.keys), s.keys, s.size, s.hidden, keys.data());
    pack(v + s.at(b, a, 0, s.keys), s.keys, s.size, s.hidden, s.wide_keys, 1.0f, values.data());
    const int32_t offset = row_offset(seeds[shared ? 0 : b], salt);
    for (int64_t block = 0; block < s.blocks; ++block) {
      const int64_t first = block * QUERIES, n = std::min(QUERIES, s.queries - first);
      const Range range = ranges[b * s.blocks + block];
      const int64_t end = std::min(range.last, s.keys);
      rows_of(s, q + s.at(b, a, first, s.queries), n, scale, asks.data());
      scores(s, asks.data(), keys.data(), range, shares.data());
      float factors[QUERIES];
      for (int64_t i = 0; i < n; ++i) {
        const int64_t t = first + i;
        const float* m = mask + (b * s.queries + t) * s.keys;
        float* p = shares.data() + i * s.stride;
        float most = -INFINITY, sum = 0;
        for (int64_t j = range.first; j < end; ++j) {
          p[j] += m[j];
          most = std::max(most, p[j]);
        }
        for (int64_t j = range.first; j < end; ++j) {
          const float e = p[j] - most < -80.0f ? 0.0f : fast_exp(p[j] - most);
          p[j] = e;
          sum += e;
        }
        if (drops) {
          const int32_t start = static_cast<int32_t>((((shared ? b : 0) * s.heads + a) * s.queries + t) * s.keys);
          for (int64_t j = range.first; j < end; ++j)
            p[j] = stays(start + static_cast<int32_t>(j), offset, threshold) ? p[j] : 0.0f;
        }
        std::fill(p + end, p + range.last, 0.0f);
        logs[(b * s.heads + a) * s.queries + t] = most + std::log(sum);
        factors[i] = (drops ? kept : 1.0f) / sum;
      }
      for (int64_t d = 0; d < s.wide_size; d += WIDE)
        for (int64_t i = 0; i < up(n, TALL); i += TALL)
          tile<false>(shares.data() + i * s.stride + range.first, s.stride, 1,
                      values.data() + d * s.wide_keys + range.first * WIDE, WIDE, range.last - range.first,
                      mixed.data() + i * s.wide_size + d, s.wide_size);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t d = 0; d < s.size; ++d)
          out[s.at(b, a, first + i, s.queries) + d] = mixed[i * s.wide_size + d] * factors[i];
    }
  });
  return 0;
}

// dmixture, q, k, v, mask, seeds, {heads, salt, threshold}, {scale, kept}, mixture, logs -> dq, dk, dv
KERNEL(attention_grad) {
  const Call all{params, ndims, shapes}, c{params + 1, ndims + 1, shapes + 1};
  const Sizes s(c, c.ints(5)[0]);
  const float *g = all.in(0), *q = c.in(0), *k = c.in(1), *v = c.in(2), *mask = c.in(3), scale = c.in(6)[0];
  const float kept = c.in(6)[1], *mixture = c.in(7), *logs = c.in(8);
  const int32_t *seeds = c.ints(4), salt = c.ints(5)[1], threshold = c.ints(5)[2];
  const bool drops = threshold != INT32_MIN, shared = c.size(4) == 1;  // one seed for all rows together
  float *dq = c.out(9), *dk = c.out(10), *dv = c.out(11);
  const std::vector<Range> ranges = seen(s, mask);
  Pool::here().share(s.batch * s.heads, [&](int64_t head) {
    const int64_t b = head / s.heads, a = head % s.heads;
    thread_local std::vector<float> keys, values, sources, asks, ask_panels, grads, grad_panels, shares, dshares, dasks;
    thread_local std::vector<float> dkeys, dvalues;
    keys.resize(s.wide_keys * s.size);
    values.resize(s.wide_keys * s.size);
    sources.resize(s.wide_keys * s.wide_size);
    for (auto* x : {&asks, &ask_panels, &grads, &grad_panels, &dasks}) x->resize(QUERIES * s.wide_size);
    for (auto* x : {&shares, &dshares}) x->resize(QUERIES * s.stride);
    for (auto* x : {&dkeys, &dvalues}) x->assign(s.wide_keys * s.wide_size, 0.0f);
    pack_transposed(k + s.at(b, a, 0, s.keys), s.keys, s.size, s.hidden, keys.data());
    pack_transposed(v + s.at(b, a, 0, s.keys), s.keys, s.size, s.hidden, values.data());
    pack(k + s.at(b, a, 0, s.keys), s.keys, s.size, s.hidden, s.wide_keys, 1.0f, sources.data());
    const int32_t offset = row_offset(seeds[shared ? 0 : b], salt);
    for (int64_t block = 0; block < s.blocks; ++block) {
      const int64_t first = block * QUERIES, n = std::min(QUERIES, s.queries - first);
      const Range range = ranges[b * s.blocks + block];
      const int64_t end = std::min(range.last, s.keys), origin = s.at(b, a, first, s.queries);
      rows_of(s, q + origin, n, scale, asks.data());
      rows_of(s, g + origin, n, 1.0f, grads.data());
      pack(q + origin, n, s.size, s.hidden, QUERIES, scale, ask_panels.data());
      pack(g + origin, n, s.size, s.hidden, QUERIES, 1.0f, grad_panels.data());
      scores(s, asks.data(), keys.data(), range, shares.data());
      scores(s, grads.data(), values.data(), range, dshares.data());
      for (int64_t i = 0; i < QUERIES; ++i) {
        float *p = shares.data() + i * s.stride, *d = dshares.data() + i * s.stride;
        if (i >= n) {
          std::fill(p + range.first, p + range.last, 0.0f);
          std::fill(d + range.first, d + range.last, 0.0f);
          continue;
        }
        const int64_t t = first + i;
        const float *m = mask + (b * s.queries + t) * s.keys, log = logs[(b * s.heads + a) * s.queries + t];
        float dot = 0;
        for (int64_t j = 0; j < s.size; ++j) dot += g[origin + i * s.hidden + j] * mixture[origin + i * s.hidden + j];
        if (drops) {
          const int32_t start = static_cast<int32_t>((((shared ? b : 0) * s.heads + a) * s.queries + t) * s.keys);
          for (int64_t j = range.first; j < end; ++j) {
            const float x = p[j] + m[j] - log, e = x < -80.0f ? 0.0f : fast_exp(x);
            const float keeps = stays(start + static_cast<int32_t>(j), offset, threshold) ? kept : 0.0f;
            d[j] = e * (keeps * d[j] - dot);
            p[j] = e * keeps;
          }
        } else {
          for (int64_t j = range.first; j < end; ++j) {
            const float x = p[j] + m[j] - log, e = x < -80.0f ? 0.0f : fast_exp(x);
            d[j] = e * (d[j] - dot);
            p[j] = e;
          }
        }
        std::fill(p + end, p + range.last, 0.0f);
        std::fill(d + end, d + range.last, 0.0f);
      }
      for (int64_t w = 0; w < s.wide_size; w += WIDE) {
        for (int64_t i = 0; i < QUERIES; i += TALL)
          tile<false>(dshares.data() + i * s.stride + range.first, s.stride, 1,
                      sources.data() + w * s.wide_keys + range.first * WIDE, WIDE, range.last - range.first,
                      dasks.data() + i * s.wide_size + w, s.wide_size);
        for (int64_t j = range.first; j < range.last; j += TALL) {
          const int64_t at = w * s.wide_keys + j * WIDE;
          tile<true>(dshares.data() + j, 1, s.stride, ask_panels.data() + w * QUERIES, WIDE, QUERIES, dkeys.data() + at, WIDE);
          tile<true>(shares.data() + j, 1, s.stride, grad_panels.data() + w * QUERIES, WIDE, QUERIES, dvalues.data() + at, WIDE);
        }
      }
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < s.size; ++j) dq[origin + i * s.hidden + j] = dasks[i * s.wide_size + j] * scale;
    }
    for (int64_t i = 0; i < s.keys; ++i)
      for (int64_t j = 0; j < s.size; ++j) {
        const int64_t from = j / WIDE * WIDE * s.wide_keys + i * WIDE + j % WIDE;
        dk[s.at(b, a, i, s.keys) + j] = dkeys[from];
        dv[s.at(b, a, i, s.keys) + j] = dvalues[from];
      }
  });
  return 0;
}
