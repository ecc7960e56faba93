// Attention over the cache: a key and a value are appended in place, and only positions that exist are visited.
// The threads of a team share the heads of all tokens among them.
#pragma once
#include <vector>

#include "model.h"
#include "team.h"
#include "vectors.h"

constexpr int64_t HEADS_A_TASK = 4;  // where a head is little work

struct Attention {
    const Model& model;
    const Batch& batch;
    int64_t layer;
    int64_t width = model.hidden / model.heads;
    int64_t blocks = (model.window + LANES - 1) / LANES;

    // Where the keys (or values) of a token's row and head begin.
    float* cache(float* all_layers, int64_t token, int64_t head) const {
        const int64_t row = layer * batch.num_rows + batch.rows[token];
        return all_layers + (row * model.heads + head) * blocks * LANES * width;
    }

    // Value i of the first half of what is rotated and value i of the second are a pair (RoFormer, as GPT-NeoX has it).
    void turn(float* x, int64_t position) const {
        const int64_t half = model.rotated / 2;
        const float *cosines = model.cosines + position * half, *sines = model.sines + position * half;
        for (int64_t i = 0; i < half; ++i) {
            const float first = x[i], second = x[i + half];
            x[i] = first * cosines[i] - second * sines[i];
            x[i + half] = second * cosines[i] + first * sines[i];
        }
    }

    // Queries are turned and scaled in place; keys and values go to the cache. A barrier must follow.
    void append(Team& team, float* queries, float* keys, const float* values) const {
        const float scale = 1.0f / __builtin_sqrtf(static_cast<float>(width));
        team.share(batch.tokens * model.heads, HEADS_A_TASK, [&](int64_t task) {
            const int64_t token = task / model.heads, head = task % model.heads;
            const int64_t at = token * model.hidden + head * width, position = batch.positions[token];
            if (model.cosines) turn(queries + at, position), turn(keys + at, position);
            float* key = cache(batch.keys, token, head) + position / LANES * LANES * width + position % LANES;
            float* value = cache(batch.values, token, head) + position * width;
            for (int64_t i = 0; i < width; ++i) {
                queries[at + i] *= scale;
                key[i * LANES] = keys[at + i];
                value[i] = values[at + i];
            }
        });
    }

    // Every token sees its row up to itself.
    void mix(Team& team, const float* queries, float* mixed) const {
        team.share(batch.tokens * model.heads, 1, [&](int64_t task) {
            const int64_t token = task / model.heads, head = task % model.heads;
            const int64_t at = token * model.hidden + head * width, count = batch.positions[token] + 1;
            static thread_local std::vector<float> shares;
            shares.resize(blocks * LANES);
            softmax_of_scores(queries + at, cache(batch.keys, token, head), count, shares.data());
            weigh(shares.data(), cache(batch.values, token, head), count, mixed + at);
        });
    }

    void softmax_of_scores(const float* __restrict query, const float* __restrict keys, int64_t count,
                           float* __restrict shares) const {
        Floats largest = all(-1e30f);
        for (int64_t at = 0; at < count; at += LANES) {
            Floats parts[4] = {};
            const float* block = keys + at * width;
            int64_t i = 0;
            for (; i + 4 <= width; i += 4)
#pragma GCC unroll 4
                for (int part = 0; part < 4; ++part)
                    parts[part] += query[i + part] * load(block + (i + part) * LANES);
            for (; i < width; ++i) parts[0] += query[i] * load(block + i * LANES);
            Floats scores = (parts[0] + parts[1]) + (parts[2] + parts[3]);
            scores = lane_numbers() + static_cast<int32_t>(at) < static_cast<int32_t>(count) ? scores : all(-1e30f);
            largest = max(largest, scores);
            store(shares + at, scores);
        }
        float top = largest[0];
        for (int lane = 1; lane < LANES; ++lane) top = std::max(top, largest[lane]);
        Floats total[1] = {};
        for (int64_t at = 0; at < count; at += LANES) {
            Floats weights = exp(load(shares + at) - top);
            weights = lane_numbers() + static_cast<int32_t>(at) < static_cast<int32_t>(count) ? weights : all(0.0f);
            total[0] += weights;
            store(shares + at, weights);
        }
        const float scale = 1.0f / sums<1>(total)[0];
        for (int64_t at = 0; at < count; at += LANES) store(shares + at, load(shares + at) * scale);
    }

    void weigh(const float* __restrict shares, const float* __restrict values, int64_t count,
               float* __restrict mixed) const {
        std::fill_n(mixed, width, 0.0f);
        int64_t key = 0;
        for (; key + 4 <= count; key += 4) {
            const float *s = shares + key, *v = values + key * width;
            for (int64_t i = 0; i < width; ++i)
                mixed[i] += (s[0] * v[i] + s[1] * v[width + i]) + (s[2] * v[2 * width + i] + s[3] * v[3 * width + i]);
        }
        for (; key < count; ++key)
            for (int64_t i = 0; i < width; ++i) mixed[i] += shares[key] * values[key * width + i];
    }
};
