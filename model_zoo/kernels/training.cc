// Fused kernels of a training step on a CPU, float32, as MindSpore's Custom operators call them.
//
// Every sum over rows goes by blocks of a fixed size, so results do not depend on the number of threads.
// Covers: layer norm, bias, fast GELU, dropout, masked softmax with dropout, cross-entropy; each with its gradient.
// Does not cover: half precision, other devices.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "pool.h"

namespace {

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

// exp for arguments of at most 88: the rounding error is that of the float32 result, below 2 units in the last place.
inline float fast_exp(float x) {
  x = std::min(std::max(x, -87.0f), 88.0f);
  const float n = std::nearbyint(x * 1.44269504f);
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, 4);
  return p * power;
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

}  // namespace

#define KERNEL(name) \
  extern "C" int name(int, void** params, int* ndims, int64_t** shapes, const char**, void*, void*)

// x [N, H], gamma, beta, epsilon [1] -> y, mean [N], inverse deviation [N]
KERNEL(layer_norm) {
  const Call c{params, ndims, shapes};
  const int64_t rows = c.rows(0), width = c.last(0);
  const float *x = c.in(0), *gamma = c.in(1), *beta = c.in(2);
  const float epsilon = c.in(3)[0];
  float *y = c.out(4), *mean = c.out(5), *inverse = c.out(6);
  share_rows(rows, width, [&](int64_t r) {
    const float* a = x + r * width;
    float sum = 0, squares = 0;
    for (int64_t i = 0; i < width; ++i) sum += a[i];
    const float m = sum / width;
    for (int64_t i = 0; i < width; ++i) squares += (a[i] - m) * (a[i] - m);
    const float s = 1.0f / std::sqrt(squares / width + epsilon);
    for (int64_t i = 0; i < width; ++i) y[r * width + i] = (a[i] - m) * s * gamma[i] + beta[i];
    mean[r] = m;
    inverse[r] = s;
  });
  return 0;
}

// dy, x, gamma, mean, inverse -> dx, dgamma, dbeta
KERNEL(layer_norm_grad) {
  const Call c{params, ndims, shapes};
  const int64_t rows = c.rows(0), width = c.last(0);
  const float *dy = c.in(0), *x = c.in(1), *gamma = c.in(2), *mean = c.in(3), *inverse = c.in(4);
  float *dx = c.out(5), *dgamma = c.out(6), *dbeta = c.out(7);
  std::vector<float> both(2 * width);
  column_sums(rows, 2 * width, both.data(), [&](int64_t first, int64_t last, float* sums) {
    for (int64_t r = first; r < last; ++r) {
      const float *g = dy + r * width, *a = x + r * width;
      float* d = dx + r * width;
      const float m = mean[r], s = inverse[r];
      float sum = 0, dot = 0;
      for (int64_t i = 0; i < width; ++i) {
        const float n = (a[i] - m) * s, t = g[i] * gamma[i];
        sum += t;
        dot += t * n;
        sums[i] += g[i] * n;
        sums[width + i] += g[i];
      }
      sum /= width;
      dot /= width;
      for (int64_t i = 0; i < width; ++i) d[i] = s * (g[i] * gamma[i] - sum - (a[i] - m) * s * dot);
    }
  });
  std::copy(both.begin(), both.begin() + width, dgamma);
  std::copy(both.begin() + width, both.end(), dbeta);
  return 0;
}

// x [N, O], bias [O] -> x + bias
KERNEL(add_bias) {
  const Call c{params, ndims, shapes};
  const int64_t rows = c.rows(0), width = c.last(0);
  const float *x = c.in(0), *bias = c.in(1);
  float* y = c.out(2);
  share_rows(rows, width, [&](int64_t r) {
    for (int64_t i = 0; i < width; ++i) y[r * width + i] = x[r * width + i] + bias[i];
  });
  return 0;
}

// dy [N, O] -> its column sums [O]
KERNEL(sum_rows) {
  const Call c{params, ndims, shapes};
  const int64_t width = c.last(0);
  const float* dy = c.in(0);
  column_sums(c.rows(0), width, c.out(1), [&](int64_t first, int64_t last, float* sums) {
    for (int64_t r = first; r < last; ++r)
      for (int64_t i = 0; i < width; ++i) sums[i] += dy[r * width + i];
  });
  return 0;
}

// x -> x sigmoid(1.702 x)
KERNEL(fast_gelu) {
  const Call c{params, ndims, shapes};
  const int64_t width = c.last(0);
  const float* x = c.in(0);
  float* y = c.out(1);
  share_rows(c.rows(0), width, [&](int64_t r) {
    for (int64_t k = r * width; k < (r + 1) * width; ++k) y[k] = x[k] / (1.0f + fast_exp(-1.702f * x[k]));
  });
  return 0;
}

// dy, x -> dx
KERNEL(fast_gelu_grad) {
  const Call c{params, ndims, shapes};
  const int64_t width = c.last(0);
  const float *dy = c.in(0), *x = c.in(1);
  float* dx = c.out(2);
  share_rows(c.rows(0), width, [&](int64_t r) {
    for (int64_t k = r * width; k < (r + 1) * width; ++k) {
      const float s = 1.0f / (1.0f + fast_exp(-1.702f * x[k]));
      dx[k] = dy[k] * s * (1.0f + 1.702f * x[k] * (1.0f - s));
    }
  });
  return 0;
}

// x [B, ...], seeds [B], {salt, threshold} int32, scale [1] -> dropped x; its own gradient
KERNEL(dropout) {
  const Call c{params, ndims, shapes};
  const float* x = c.in(0);
  const int64_t batch = c.size(1), count = c.size(0) / batch, pieces = (count + PIECE - 1) / PIECE;
  const int32_t *seeds = c.ints(1), salt = c.ints(2)[0], threshold = c.ints(2)[1];
  const float scale = c.in(3)[0];
  float* y = c.out(4);
  share_rows(batch * pieces, PIECE, [&](int64_t piece) {
    const int64_t b = piece / pieces, first = piece % pieces * PIECE, last = std::min(count, first + PIECE);
    const int32_t offset = row_offset(seeds[b], salt);
    for (int64_t i = first; i < last; ++i)
      y[b * count + i] = stays(static_cast<int32_t>(i), offset, threshold) ? x[b * count + i] * scale : 0.0f;
  });
  return 0;
}

// scores [B, A, T, K], mask [B, 1, T, K] (added), seeds [B], {salt, threshold}, {scale of scores, of what stays}
// -> shares, shares that stay
KERNEL(masked_softmax) {
  const Call c{params, ndims, shapes};
  const int64_t batch = shapes[0][0], heads = shapes[0][1], queries = shapes[0][2], keys = shapes[0][3];
  const float *scores = c.in(0), *mask = c.in(1), scale = c.in(4)[0], kept = c.in(4)[1];
  const int32_t *seeds = c.ints(2), salt = c.ints(3)[0], threshold = c.ints(3)[1];
  const bool drops = threshold != INT32_MIN;
  float *shares = c.out(5), *dropped = drops ? c.out(6) : nullptr;
  share_rows(batch * heads * queries, keys, [&](int64_t row) {
    const int64_t b = row / (heads * queries), t = row % queries;
    const float *a = scores + row * keys, *m = mask + (b * queries + t) * keys;
    float* p = shares + row * keys;
    float most = -INFINITY, sum = 0;
    for (int64_t k = 0; k < keys; ++k) {
      p[k] = a[k] * scale + m[k];
      most = std::max(most, p[k]);
    }
    for (int64_t k = 0; k < keys; ++k) {
      const float e = p[k] - most < -80.0f ? 0.0f : fast_exp(p[k] - most);
      p[k] = e;
      sum += e;
    }
    const float inverse = 1.0f / sum;
    for (int64_t k = 0; k < keys; ++k) p[k] *= inverse;
    if (!drops) return;
    const int32_t offset = row_offset(seeds[b], salt), start = static_cast<int32_t>((row % (heads * queries)) * keys);
    for (int64_t k = 0; k < keys; ++k)
      dropped[row * keys + k] = stays(start + static_cast<int32_t>(k), offset, threshold) ? p[k] * kept : 0.0f;
  });
  return 0;
}

// gradient of what stays, shares, seeds, {salt, threshold}, {scale, kept} -> gradient of the scores
KERNEL(masked_softmax_grad) {
  const Call c{params, ndims, shapes};
  const int64_t batch = shapes[0][0], heads = shapes[0][1], queries = shapes[0][2], keys = shapes[0][3];
  const float *g = c.in(0), *shares = c.in(1), scale = c.in(4)[0], kept = c.in(4)[1];
  const int32_t *seeds = c.ints(2), salt = c.ints(3)[0], threshold = c.ints(3)[1];
  const bool drops = threshold != INT32_MIN;
  float* out = c.out(5);
  share_rows(batch * heads * queries, keys, [&](int64_t row) {
    const int64_t b = row / (heads * queries);
    const float *d = g + row * keys, *p = shares + row * keys;
    float* o = out + row * keys;
    float dot = 0;
    if (drops) {
      const int32_t offset = row_offset(seeds[b], salt), start = static_cast<int32_t>((row % (heads * queries)) * keys);
      for (int64_t k = 0; k < keys; ++k) {
        o[k] = stays(start + static_cast<int32_t>(k), offset, threshold) ? d[k] * kept : 0.0f;
        dot += o[k] * p[k];
      }
      for (int64_t k = 0; k < keys; ++k) o[k] = (o[k] - dot) * p[k] * scale;
    } else {
      for (int64_t k = 0; k < keys; ++k) dot += d[k] * p[k];
      for (int64_t k = 0; k < keys; ++k) o[k] = (d[k] - dot) * p[k] * scale;
    }
  });
  return 0;
}

// logits [N, V], labels [N] -> nats [N], log of the sum of exponentials [N]
KERNEL(cross_entropy) {
  const Call c{params, ndims, shapes};
  const int64_t rows = c.rows(0), width = c.last(0);
  const float* logits = c.in(0);
  const int32_t* labels = c.ints(1);
  float *nats = c.out(2), *logs = c.out(3);
  share_rows(rows, width, [&](int64_t r) {
    const float* a = logits + r * width;
    float most = a[0], sum = 0;
    for (int64_t i = 0; i < width; ++i) most = std::max(most, a[i]);
    for (int64_t i = 0; i < width; ++i) sum += fast_exp(a[i] - most);
    logs[r] = most + std::log(sum);
    nats[r] = logs[r] - a[labels[r]];
  });
  return 0;
}

// dnats [N], logits, labels, logs -> dlogits
KERNEL(cross_entropy_grad) {
  const Call c{params, ndims, shapes};
  const int64_t rows = c.rows(1), width = c.last(1);
  const float *g = c.in(0), *logits = c.in(1), *logs = c.in(3);
  const int32_t* labels = c.ints(2);
  float* out = c.out(4);
  share_rows(rows, width, [&](int64_t r) {
    for (int64_t i = 0; i < width; ++i) out[r * width + i] = g[r] * fast_exp(logits[r * width + i] - logs[r]);
    out[r * width + labels[r]] -= g[r];
  });
  return 0;
}
