// The operators again, as plainly as they can be written, and random inputs for them.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "ort/view.h"

namespace onnx_memo::testing {

using Halves = std::vector<std::uint16_t>;
using Floats = std::vector<float>;
using Integers = std::vector<std::int64_t>;

// By the definition of the format: sign, 5 bits of exponent with bias 15, 10 bits of fraction.
inline float NaiveHalf(std::uint16_t half) {
  const int exponent = (half >> 10) & 31;
  const int fraction = half & 1023;
  float value = 0;
  if (exponent == 31) {
    value = fraction == 0 ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    value = std::ldexp(static_cast<float>(fraction), -24);
  } else {
    value = std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  }
  return (half & 0x8000) != 0 ? -value : value;
}

// The first of the entries with the row's length at the least distance, or -1.
inline std::int64_t NaiveLookup(const float* query, std::int64_t length, const Floats& keys, const Integers& lengths,
                                std::size_t width, float threshold) {
  std::int64_t best = -1;
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t entry = 0; entry < lengths.size(); ++entry) {
    if (lengths[entry] != length) continue;
    double sum = 0;
    for (std::size_t i = 0; i < width; ++i) {
      const double difference = static_cast<double>(query[i]) - static_cast<double>(keys[i * lengths.size() + entry]);
      sum += difference * difference;
    }
    if (sum < least || (best == -1 && sum <= least)) {
      least = sum;
      best = static_cast<std::int64_t>(entry);
    }
  }
  return best >= 0 && std::sqrt(least) <= static_cast<double>(threshold) ? best : -1;
}

inline Floats RandomFloats(std::mt19937& random, std::size_t count) {
  std::normal_distribution<float> normal;
  Floats numbers(count);
  for (float& number : numbers) number = normal(random);
  return numbers;
}

// Finite, of magnitude up to about 2.
inline Halves RandomHalves(std::mt19937& random, std::size_t count) {
  std::uniform_int_distribution<int> magnitude(0, 0x4000);
  std::uniform_int_distribution<int> sign(0, 1);
  Halves numbers(count);
  for (auto& number : numbers) number = static_cast<std::uint16_t>(magnitude(random) | (sign(random) << 15));
  return numbers;
}

template <typename T>
View<const T, 1> Vector(const std::vector<T>& numbers) {
  return {numbers.data(), {static_cast<std::int64_t>(numbers.size())}};
}

template <typename T>
View<const T, 2> Matrix(const std::vector<T>& numbers, std::int64_t rows, std::int64_t columns) {
  return {numbers.data(), {rows, columns}};
}

}  // namespace onnx_memo::testing
