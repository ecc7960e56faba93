// Linear layers of a training step on a CPU, float32, y = x W^T + b, and their two gradients as operators of their own: what
// nobody asks for is not computed. Several layers that read the same x are one call. With `gelu_` in front, x is what
// comes out of x sigmoid(1.702 x), which is never held.
// Covers: any number of layers with biases, one without. Does not cover: half precision, a GELU before several layers.

#include "product.h"

int matrix_unit = 1;

// `when` the matrix unit is used from now on: 0, 1 or 2, as in product.h. 1 if there is one that may be.
extern "C" int use_matrix_unit(int when) {
  matrix_unit = when;
  return method(true).tiles;
}

namespace {

struct Gelu : Matrix {
  View block(int64_t r, int64_t c, float* copy) const {
    return copied(r, c, copy, [](float x, int64_t, int64_t) { return gelu(x); });
  }
};

struct Biased {
  const float* bias;
  float operator()(float sum, int64_t, int64_t o) const { return sum + bias[o]; }
};

struct GeluSlope {
  const float* x;
  int64_t columns;
  float operator()(float sum, int64_t r, int64_t i) const { return sum * gelu_slope(x[r * columns + i]); }
};

Matrix matrix(const Call& c, int i) { return {c.in(i), c.rows(i), c.last(i)}; }

// x [N, I], n weights [O, I], n biases [O] (or one weight alone) -> n times y [N, O]
template <class Source>
int outputs(int total, const Call& c) {
  const int n = total == 3 ? 1 : (total - 1) / 3;
  const Source x{matrix(c, 0)};
  Joined<false> weights;
  for (int i = 0; i < n; ++i) weights.each.push_back(matrix(c, 1 + i));
  if (total == 3) {
    multiply(x, false, weights, true, Output<>{c.out(2), x.rows, weights.each[0].rows, {}});
    return 0;
  }
  Outputs<true, Joined<false>, Biased> ys{weights, {}};
  for (int i = 0; i < n; ++i) ys.each.push_back({c.out(total - n + i), x.rows, weights.each[i].rows, {c.in(1 + n + i)}});
  multiply(x, false, weights, true, ys);
  return 0;
}

// x [N, I], n times dy [N, O] -> n times dW [O, I], n times db [O] (or dW alone)
template <class Source>
int weight_gradients(int total, const Call& c) {
  const int n = total == 3 ? 1 : (total - 1) / 3;
  const Source x{matrix(c, 0)};
  Joined<true> dys;
  for (int i = 0; i < n; ++i) dys.each.push_back(matrix(c, 1 + i));
  if (total > 3)
    for (int i = 0; i < n; ++i) {
      const Matrix& dy = dys.each[i];
      column_sums(dy.rows, dy.columns, c.out(1 + 2 * n + i), [&](int64_t first, int64_t last, float* sums) {
        for (int64_t r = first; r < last; ++r)
          for (int64_t o = 0; o < dy.columns; ++o) sums[o] += dy.x[r * dy.columns + o];
      });
    }
  Outputs<false, Joined<true>> dweights{dys, {}};
  for (int i = 0; i < n; ++i) dweights.each.push_back({c.out(1 + n + i), dys.each[i].columns, x.columns, {}});
  // The factor with more columns goes by groups, so that the smaller one is packed as a whole.
  if (dys.column_blocks() >= x.column_blocks())
    multiply(dys, true, x, false, dweights);
  else
    multiply(x, true, dys, false, Turned<decltype(dweights)>{dweights});
  return 0;
}

}  // namespace

KERNEL(linear) { return outputs<Matrix>(total, {params, ndims, shapes}); }

KERNEL(two_linears) { return outputs<Matrix>(total, {params, ndims, shapes}); }

KERNEL(three_linears) { return outputs<Matrix>(total, {params, ndims, shapes}); }

KERNEL(product) { return outputs<Matrix>(total, {params, ndims, shapes}); }

KERNEL(gelu_linear) { return outputs<Gelu>(total, {params, ndims, shapes}); }

KERNEL(linear_weights) { return weight_gradients<Matrix>(total, {params, ndims, shapes}); }

KERNEL(gelu_linear_weights) { return weight_gradients<Gelu>(total, {params, ndims, shapes}); }

// n times dy [N, O], n weights [O, I] -> dx [N, I]
KERNEL(linear_inputs) {
  const Call c{params, ndims, shapes};
  const int n = (total - 1) / 2;
  Joined<true> dys;
  Joined<false> weights;
  for (int i = 0; i < n; ++i) dys.each.push_back(matrix(c, i)), weights.each.push_back(matrix(c, n + i));
  multiply(dys, false, weights, false, Output<>{c.out(2 * n), dys.each[0].rows, weights.each[0].columns, {}});
  return 0;
}

// dy [N, O], weight [O, I], x [N, I] before the GELU -> dx
KERNEL(gelu_linear_inputs) {
  const Call c{params, ndims, shapes};
  const Matrix dy = matrix(c, 0), weight = matrix(c, 1);
  multiply(dy, false, weight, false, Output<GeluSlope>{c.out(3), dy.rows, weight.columns, {c.in(2), weight.columns}});
  return 0;
}
