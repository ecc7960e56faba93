// A pass of some tokens through a model, extending the cache: one call for a step of a batch or a piece of a prompt.
// One team of threads goes through all layers together, so that a pass costs a few barriers a layer and no launches.
// Covers: CodeGeeX and GPT-NeoX in float32, with weights of float32 or int8. Does not cover: training, half precision.
#include <chrono>
#include <cmath>
#include <vector>

#include "attention.h"
#include "linear.h"
#include "team.h"

namespace {

void normalise(const Norm& norm, float epsilon, int64_t size, const float* x, float* y) {
    float mean = 0.0f, variance = 0.0f;
#pragma omp simd reduction(+ : mean)
    for (int64_t i = 0; i < size; ++i) mean += x[i];
    mean /= size;
#pragma omp simd reduction(+ : variance)
    for (int64_t i = 0; i < size; ++i) variance += (x[i] - mean) * (x[i] - mean);
    const float scale = 1.0f / std::sqrt(variance / size + epsilon);
    for (int64_t i = 0; i < size; ++i) y[i] = (x[i] - mean) * scale * norm.gamma[i] + norm.beta[i];
}

struct alignas(64) Line {  // what a processor reads at once; a vector that straddles two costs twice
    float values[LANES];
};

struct Pass {
    const Model& model;
    const Batch& batch;
    int64_t tokens = batch.tokens, hidden = model.hidden;
    std::vector<Line> memory =
        std::vector<Line>((tokens * (7 * hidden + model.inner) + batch.num_wanted * hidden) / LANES + 1);
    // [tokens, hidden] each, but inner: [tokens, inner], and last: [wanted, hidden]
    float* x = memory.front().values;
    float* normed = x + tokens * hidden;
    float* normed_again = normed + tokens * hidden;
    float* queries = normed_again + tokens * hidden;
    float* keys = queries + tokens * hidden;
    float* values = keys + tokens * hidden;
    float* mixed = values + tokens * hidden;
    float* inner = mixed + tokens * hidden;
    float* last = inner + tokens * model.inner;

    std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();

    // What follows is run by every thread of the team.

    void finish(Team& team, Phase phase) {
        team.barrier();
        if (!batch.seconds || !team.is_caller()) return;
        const auto now = std::chrono::steady_clock::now();
        batch.seconds[phase] += std::chrono::duration<double>(now - since).count();
        since = now;
    }

    void embed(Team& team) {
        team.share(tokens, 1, [&](int64_t token) {
            const float* word = model.words + batch.ids[token] * hidden;
            const float* place = model.places ? model.places + batch.positions[token] * hidden : nullptr;
            for (int64_t i = 0; i < hidden; ++i) x[token * hidden + i] = word[i] + (place ? place[i] : 0.0f);
        });
        finish(team, NORMS);
    }

    void norm(Team& team, const Norm& norm, float* from, float* to) {
        team.share(tokens, 1, [&](int64_t token) {
            normalise(norm, model.epsilon, hidden, from + token * hidden, to + token * hidden);
        });
    }

    void ask(Team& team) {
        team.share(tokens, 1, [&](int64_t token) {
            std::copy_n(model.questions + batch.positions[token] * hidden, hidden, mixed + token * hidden);
        });
    }

    void multiply(Team& team, const Linear& linear, const float* from, float* to, const float* residual = nullptr,
                  int32_t activation = NONE) {
        Product{linear, from, to, residual, activation, tokens}.run(team);
    }

    void block(Team& team, int64_t index, bool asks) {
        const Layer& layer = model.layers[index];
        norm(team, layer.attention_norm, x, normed);
        if (model.parallel) norm(team, layer.feed_forward_norm, x, normed_again);
        if (asks) ask(team);
        finish(team, NORMS);
        multiply(team, layer.query, asks ? mixed : normed, queries);
        multiply(team, layer.key, normed, keys);
        multiply(team, layer.value, normed, values);
        finish(team, PRODUCTS);
        const Attention attention{model, batch, index};
        attention.append(team, queries, keys, values);
        finish(team, CACHE);
        attention.mix(team, queries, mixed);
        finish(team, ATTENTION);
        multiply(team, layer.output, mixed, x, x);
        finish(team, PRODUCTS);
        if (!model.parallel) {
            norm(team, layer.feed_forward_norm, x, normed_again);
            finish(team, NORMS);
        }
        multiply(team, layer.up, normed_again, inner, nullptr, model.activation);
        finish(team, PRODUCTS);
        multiply(team, layer.down, inner, x, x);
        finish(team, PRODUCTS);
    }

    void head(Team& team) {
        team.share(batch.num_wanted, 1, [&](int64_t i) {
            const float* from = x + batch.wanted[i] * hidden;
            if (model.questions)
                std::copy_n(from, hidden, last + i * hidden);
            else
                normalise(model.final_norm, model.epsilon, hidden, from, last + i * hidden);
        });
        finish(team, NORMS);
        Product{model.head, last, batch.logits, nullptr, NONE, batch.num_wanted}.run(team);
        finish(team, HEAD);
    }

    void run(Team& team) {
        embed(team);
        for (int64_t index = 0; index < model.num_layers; ++index) {
            const bool asks = model.questions && index == model.num_layers - 1;
            if (asks) {
                norm(team, model.final_norm, x, x);
                finish(team, NORMS);
            }
            block(team, index, asks);
        }
        head(team);
    }
};

}  // namespace

extern "C" void forward(const Model* model, const Batch* batch) {
    Pass pass{*model, *batch};
    Team::run(batch->threads, [&](Team& team) { pass.run(team); });
}

// The sum of numbers, each read once: as fast as the memory gives them.
extern "C" float read_all(const float* numbers, int64_t count, int64_t threads) {
    constexpr int64_t PIECE = 1 << 16;
    std::atomic<float> total{0.0f};
    Team::run(threads, [&](Team& team) {
        Floats parts[4] = {};
        team.share(count / PIECE, 1, [&](int64_t piece) {
            for (int64_t at = piece * PIECE; at < (piece + 1) * PIECE; at += 4 * LANES)
                for (int part = 0; part < 4; ++part) parts[part] += load(numbers + at + part * LANES);
        });
        parts[0] += parts[1] + parts[2] + parts[3];
        total = total + sums<1>(parts)[0];
    });
    return total;
}
