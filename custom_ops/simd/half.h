// One half-precision number to single precision, in integer and exact float steps.
#pragma once

#include <cstdint>
#include <cstring>

// Internal linkage on purpose: files that include this are compiled for different processors.
namespace {

inline float HalfToFloat(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000U) << 16;
  const std::uint32_t magnitude = half & 0x7FFFU;
  std::uint32_t bits = 0;
  if (magnitude < 0x0400U) {  // zero and subnormals: a count of 2^-24, never a subnormal float
    const float value = static_cast<float>(magnitude) * 0x1p-24F;
    std::memcpy(&bits, &value, sizeof bits);
  } else {  // the exponent's bias grows from 15 to 127; that of infinity and NaN stays all ones
    bits = (magnitude << 13) + (magnitude < 0x7C00U ? 112U << 23 : 224U << 23);
  }
  bits |= sign;
  float result = 0;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

}  // namespace
