// Matrix products with few rows of x: each weight is read once, in the order in which it lies.
// Four rows of weights meet up to four tokens, as many as registers hold; weights of one byte are widened on the way.
// The threads of a team share the rows of weights among them.
#pragma once
#include "model.h"
#include "team.h"
#include "vectors.h"

constexpr int GROUP = 4;               // rows of weights at a time
constexpr int FEW = WIDTH == 8 ? 2 : 4;  // tokens whose sums stay in registers: NEON and AVX-512 have twice as many as AVX2
constexpr int64_t TASK_BYTES = 32768;  // of weights that a thread takes at once

// One row of weights with one token, as lanes to be summed: weights are read in the order in which they lie.
template <typename Weight>
inline Register row_product(const Weight* weights, const float* x, int64_t size) {
    constexpr int WHOLE = LANES / WIDTH, SUMS = 4 * WHOLE;
    Register sum[SUMS] = {};
    int64_t at = 0;
    for (; at + 4 * LANES <= size; at += 4 * LANES)
#pragma GCC unroll 16
        for (int i = 0; i < SUMS; ++i)
            sum[i] += load_register(weights + at + i * WIDTH) * load_register(x + at + i * WIDTH);
    for (; at + LANES <= size; at += LANES)
        for (int i = 0; i < WHOLE; ++i)
            sum[i] += load_register(weights + at + i * WIDTH) * load_register(x + at + i * WIDTH);
    for (int half = SUMS / 2; half; half /= 2)
        for (int i = 0; i < half; ++i) sum[i] += sum[i + half];
    return sum[0];
}

// Four rows with several tokens, every vector of weights used for all of them: lane 4 * m + r. What lies `ahead` is
// fetched meanwhile, if not 0.
template <int TOKENS, typename Weight>
inline void block_product(const Weight* const* weights, const float* const* tokens, int64_t size, int64_t ahead,
                          float* total) {
    constexpr int64_t LINE = 64 / sizeof(Weight);
    constexpr int COUNT = std::min(WIDTH, TOKENS * GROUP);
    Register sum[TOKENS * GROUP] = {};
    for (int64_t at = 0; at + WIDTH <= size / LANES * LANES; at += WIDTH) {
        if (ahead && at % LINE == 0)
#pragma GCC unroll 4
            for (int r = 0; r < GROUP; ++r) __builtin_prefetch(weights[r] + at + ahead);
        Register w[GROUP];
#pragma GCC unroll 4
        for (int r = 0; r < GROUP; ++r) w[r] = load_register(weights[r] + at);
#pragma GCC unroll 4
        for (int m = 0; m < TOKENS; ++m) {
            Register x = load_register(tokens[m] + at);
            keep(x);
#pragma GCC unroll 4
            for (int r = 0; r < GROUP; ++r) sum[m * GROUP + r] += w[r] * x;
        }
    }
    for (int first = 0; first < TOKENS * GROUP; first += COUNT) {
        const Register found = sums<COUNT>(sum + first);
        std::memcpy(total + first, &found, 4 * COUNT);
    }
}

// Lane 4 * m + r: the product of weights row r with token m.
template <int TOKENS, typename Weight>
inline Floats products(const Weight* const* weights, const float* const* tokens, int64_t size, int64_t ahead) {
    float found[LANES] = {};
    if constexpr (TOKENS == 1) {
        Register parts[GROUP];
        for (int r = 0; r < GROUP; ++r) parts[r] = row_product(weights[r], tokens[0], size);
        const Register sum = sums<GROUP>(parts);
        std::memcpy(found, &sum, 4 * GROUP);
    } else {
        constexpr int PART = std::min(FEW, TOKENS);
        for (int m = 0; m < TOKENS; m += PART)
            block_product<PART>(weights, tokens + m, size, m ? 0 : ahead, found + m * GROUP);
    }
    Floats total = load(found);
    for (int64_t at = size / LANES * LANES; at < size; ++at)
        for (int lane = 0; lane < TOKENS * GROUP; ++lane)
            total[lane] += weights[lane % GROUP][at] * tokens[lane / GROUP][at];
    return total;
}

struct Product {  // y = activation(x W^T + bias) + residual
    const Linear& linear;
    const float* x;         // [tokens, in]
    float* y;               // [tokens, out]
    const float* residual;  // [tokens, out] or null; may be y
    int32_t activation;
    int64_t tokens;

    // Rows row ... row + 3 of the weights; lane j of scale and bias belongs to row + j % 4.
    template <typename Weight>
    struct Group {
        const Weight* weights[GROUP];
        int64_t row;
        Floats scale, bias;
    };

    template <int TOKENS, typename Weight>
    void tile(const Group<Weight>& group, int64_t token) const {
        const float* inputs[TOKENS];
        for (int m = 0; m < TOKENS; ++m) inputs[m] = x + std::min(token + m, tokens - 1) * linear.in;
        const Floats sum = products<TOKENS>(group.weights, inputs, linear.in, token ? 0 : GROUP * linear.in);
        const Floats result = activated(sum * group.scale + group.bias, activation);
        for (int m = 0; m < TOKENS && token + m < tokens; ++m)
            for (int r = 0; r < GROUP && group.row + r < linear.out; ++r) {
                const int64_t at = (token + m) * linear.out + group.row + r;
                y[at] = result[m * GROUP + r] + (residual ? residual[at] : 0.0f);
            }
    }

    template <typename Weight>
    void tiles(int64_t row) const {
        Group<Weight> group{{}, row, all(1.0f), all(0.0f)};
        for (int lane = 0; lane < LANES; ++lane) {
            const int64_t at = std::min(row + lane % GROUP, linear.out - 1);
            if (lane < GROUP) group.weights[lane] = static_cast<const Weight*>(linear.weight) + at * linear.in;
            if (linear.scale) group.scale[lane] = linear.scale[at];
            if (linear.bias) group.bias[lane] = linear.bias[at];
        }
        int64_t token = 0;
        for (; tokens - token > 2; token += 4) tile<4>(group, token);
        if (tokens - token == 2) tile<2>(group, token);
        if (tokens - token == 1) tile<1>(group, token);
    }

    // A barrier must come before y is read.
    void run(Team& team) const {
        const int64_t row_bytes = linear.in * (linear.scale ? 1 : 4);
        const int64_t chunk = std::max<int64_t>(1, TASK_BYTES / (GROUP * row_bytes));
        team.share((linear.out + GROUP - 1) / GROUP, chunk, [&](int64_t number) {
            if (linear.scale)
                tiles<int8_t>(number * GROUP);
            else
                tiles<float>(number * GROUP);
        });
    }
};
