// The processor's vectors of float32.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
typedef float Lanes __attribute__((vector_size(LANES * 4)));
typedef int32_t Order __attribute__((vector_size(LANES * 4)));

inline Lanes load(const float* x) {
  Lanes found;
  std::memcpy(&found, x, sizeof found);
  return found;
}

inline void store(float* x, Lanes value) { std::memcpy(x, &value, sizeof value); }
