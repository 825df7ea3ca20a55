// How far a row's state is from the stored one.
#pragma once

#include <cmath>
#include <cstdint>

#include "ort/error.h"
#include "simd/simd.h"

namespace onnx_memo {

constexpr float kMostChange = 8.0F;

// Of the Euclidean norms, relative to that of the stored state: 0/0 is 0 and x/0 infinity.
inline float Change(const float* state, const std::uint16_t* stored, std::int64_t width) noexcept {
  const simd::Compared compared = simd::Best().compare(state, stored, Size(width));
  if (compared.difference == 0.0F) return 0.0F;
  return std::sqrt(compared.difference) / std::sqrt(compared.norm);
}

// What a change counts; most of all one that is NaN.
inline float AtMost(float change) noexcept { return change <= kMostChange ? change : kMostChange; }

}  // namespace onnx_memo
