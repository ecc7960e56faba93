// What the Python side hands over: where the weights of a model lie, and a batch of tokens with the cache they extend.
// The same fields in the same order are declared in native.py.
#pragma once
#include <cstdint>

struct Linear {  // y = x W^T (* scale) + bias
    const void* weight;  // [out, in]: float, or int8_t if there is a scale
    const float* scale;  // [out] or null
    const float* bias;   // [out] or null
    int64_t out, in;
};

struct Norm {
    const float *gamma, *beta;
};

struct Layer {
    Norm attention_norm, feed_forward_norm;
    Linear query, key, value, output, up, down;
};

struct Model {
    const Layer* layers;
    const float* words;            // [vocabulary, hidden]
    const float* places;           // [window, hidden] added to the words, or null
    const float* questions;        // [window, hidden] what the last layer's queries are made of, or null
    const float *cosines, *sines;  // [window, rotated / 2] or null
    Norm final_norm;               // before the last layer if that has questions, else after it
    Linear head;
    int64_t num_layers, hidden, heads, window, inner, rotated;
    float epsilon;
    int32_t activation, parallel;
};

struct Batch {
    const int32_t *ids, *rows, *positions;  // [tokens]: each token, the row it belongs to, where it stands
    const int32_t* wanted;                  // [num_wanted]: tokens whose logits are asked for
    int64_t tokens, num_wanted, num_rows;
    float* keys;    // [layers, rows, heads, blocks, width, 16]: blocks of 16 positions, window rounded up
    float* values;  // [layers, rows, heads, blocks * 16, width]
    float* logits;  // [num_wanted, vocabulary]
    double* seconds;  // [phases] to add to, or null
    int64_t threads;
};

enum Phase { NORMS, PRODUCTS, CACHE, ATTENTION, HEAD };
