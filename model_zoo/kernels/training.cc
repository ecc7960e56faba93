// Fused kernels of a training step on a CPU, float32, as MindSpore's Custom operators call them.
//
// Covers: layer norm (also of a sum), sums, fast GELU, dropout, cross-entropy, each with its gradient;
// the norm of all gradients, and the optimizer's update of all parameters.
// Does not cover: half precision, other devices.

#include "kernel.h"

namespace {

// Of rows x, or x + added, which is then kept in `total`.
void norms(const Call& c, const float* x, const float* added, int gamma_at, float* total, int y_at) {
  const int64_t width = c.last(0);
  const float *gamma = c.in(gamma_at), *beta = c.in(gamma_at + 1), epsilon = c.in(gamma_at + 2)[0];
  float *y = c.out(y_at), *mean = c.out(y_at + 1), *inverse = c.out(y_at + 2);
  share_rows(c.rows(0), width, [&](int64_t r) {
    const float* a = x + r * width;
    if (added) {
      float* both = total + r * width;
      for (int64_t i = 0; i < width; ++i) both[i] = a[i] + added[r * width + i];
      a = both;
    }
    float sum = 0, squares = 0;
    for (int64_t i = 0; i < width; ++i) sum += a[i];
    const float m = sum / width;
    for (int64_t i = 0; i < width; ++i) squares += (a[i] - m) * (a[i] - m);
    const float s = 1.0f / std::sqrt(squares / width + epsilon);
    for (int64_t i = 0; i < width; ++i) y[r * width + i] = (a[i] - m) * s * gamma[i] + beta[i];
    mean[r] = m;
    inverse[r] = s;
  });
}

// dy, x, gamma, mean, inverse -> dx, dgamma, dbeta; `passed` is a gradient that reaches x by another way, or none.
void norm_gradients(const Call& c, const float* passed, int outputs) {
  const int64_t rows = c.rows(0), width = c.last(0);
  const float *dy = c.in(0), *x = c.in(1), *gamma = c.in(2), *mean = c.in(3), *inverse = c.in(4);
  float *dx = c.out(outputs), *dgamma = c.out(outputs + 1), *dbeta = c.out(outputs + 2);
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
      if (passed)
        for (int64_t i = 0; i < width; ++i) d[i] += passed[r * width + i];
    }
  });
  std::copy(both.begin(), both.begin() + width, dgamma);
  std::copy(both.begin() + width, both.end(), dbeta);
}

}  // namespace

// x [N, H], gamma, beta, epsilon [1] -> y, mean [N], inverse deviation [N]
KERNEL(layer_norm) {
  const Call c{params, ndims, shapes};
  norms(c, c.in(0), nullptr, 1, nullptr, 4);
  return 0;
}

// x [N, H], added [N, H], gamma, beta, epsilon [1] -> x + added, and of that: y, mean [N], inverse deviation [N]
KERNEL(sum_layer_norm) {
  const Call c{params, ndims, shapes};
  norms(c, c.in(0), c.in(1), 2, c.out(5), 6);
  return 0;
}

// dy, x, gamma, mean, inverse -> dx, dgamma, dbeta
KERNEL(layer_norm_grad) {
  norm_gradients({params, ndims, shapes}, nullptr, 5);
  return 0;
}

// dy, x, gamma, mean, inverse, another gradient of x -> the sum of both, dgamma, dbeta
KERNEL(forked_layer_norm_grad) {
  const Call c{params, ndims, shapes};
  norm_gradients(c, c.in(5), 6);
  return 0;
}

// two tensors -> their sum
KERNEL(add) {
  const Call c{params, ndims, shapes};
  const float *x = c.in(0), *y = c.in(1);
  float* out = c.out(2);
  share_tensors(c, 1, [&](int64_t, int, int64_t first, int64_t last) {
#pragma GCC ivdep
    for (int64_t i = first; i < last; ++i) out[i] = x[i] + y[i];
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
    for (int64_t k = r * width; k < (r + 1) * width; ++k) y[k] = gelu(x[k]);
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
    for (int64_t k = r * width; k < (r + 1) * width; ++k) dx[k] = dy[k] * gelu_slope(x[k]);
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
    const float factor = scale;  // a copy that no store can change: the loop goes by vectors
    for (int64_t i = first; i < last; ++i)
      y[b * count + i] = x[b * count + i] * (stays(static_cast<int32_t>(i), offset, threshold) ? factor : 0.0f);
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
    const float most = largest(a, width);
    float sum = 0;
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

// any tensors -> the Euclidean norm of all of them together, [1]
KERNEL(global_norm) {
  const Call c{params, ndims, shapes};
  const int tensors = total - 1;
  int64_t most = 0;
  for (int i = 0; i < tensors; ++i) most += c.size(i) / PIECE + 1;
  std::vector<double> squares(most);
  share_tensors(c, tensors, [&](int64_t piece, int i, int64_t first, int64_t last) {
    const float* x = c.in(i);
    float sum = 0;
    for (int64_t k = first; k < last; ++k) sum += x[k] * x[k];
    squares[piece] = sum;
  });
  double sum = 0;
  for (const double part : squares) sum += part;
  c.out(tensors)[0] = static_cast<float>(std::sqrt(sum));
  return 0;
}

// n parameters, n first moments, n second moments (all changed in place), n gradients, factor of the gradients,
// {rate, epsilon, decay}, {beta1, beta2}, whether each parameter decays: int32 [n], whether to change anything: bool -> 0, [1]
KERNEL(adam_weight_decay) {
  const Call c{params, ndims, shapes};
  const int n = (total - 6) / 4;
  c.out(4 * n + 5)[0] = 0;
  if (!*static_cast<const bool*>(params[4 * n + 4])) return 0;
  const float factor = c.in(4 * n)[0], *scalars = c.in(4 * n + 1), *betas = c.in(4 * n + 2);
  const float rate = scalars[0], epsilon = scalars[1], beta1 = betas[0], beta2 = betas[1];
  const float rest1 = 1.0f - beta1, rest2 = 1.0f - beta2;
  const int32_t* decays = c.ints(4 * n + 3);
  share_tensors(c, n, [&](int64_t, int i, int64_t first, int64_t last) {
    const float decay = decays[i] ? scalars[2] : 0.0f;
    const float* g = c.in(3 * n + i);
    float *p = c.out(i), *m = c.out(n + i), *v = c.out(2 * n + i);
#pragma GCC ivdep
    for (int64_t k = first; k < last; ++k) {
      const float x = g[k] * factor;
      m[k] = beta1 * m[k] + rest1 * x;
      v[k] = beta2 * v[k] + rest2 * x * x;
      p[k] -= rate * (m[k] / (std::sqrt(v[k]) + epsilon) + decay * p[k]);
    }
  });
  return 0;
}
