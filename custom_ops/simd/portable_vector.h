// Four floats in an array, which compilers turn into a vector of the processor, as simd/kernels.h and
// simd/integer_kernels.h use them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd/half.h"

// Internal linkage on purpose: files that include this are compiled for different processors.
namespace {

struct Portable {
  static constexpr std::size_t kWidth = 4;
  static constexpr std::size_t kTileRows = 6;

  struct Register {
    float lanes[kWidth];
  };

  template <typename Lane>
  static Register Each(Lane lane) {
    Register result;
    for (std::size_t i = 0; i < kWidth; ++i) result.lanes[i] = lane(i);
    return result;
  }

  static Register Broadcast(float x) {
    return Each([x](std::size_t) { return x; });
  }
  static Register Load(const float* from) {
    return Each([from](std::size_t i) { return from[i]; });
  }
  static Register LoadBytes(const unsigned char* from) {
    Register result;
    std::memcpy(result.lanes, from, sizeof result.lanes);
    return result;
  }
  static Register LoadHalves(const std::uint16_t* from) {
    return Each([from](std::size_t i) { return HalfToFloat(from[i]); });
  }
  static void Store(float* to, Register x) { std::memcpy(to, x.lanes, sizeof x.lanes); }
  static Register Add(Register a, Register b) {
    return Each([&](std::size_t i) { return a.lanes[i] + b.lanes[i]; });
  }
  static Register Subtract(Register a, Register b) {
    return Each([&](std::size_t i) { return a.lanes[i] - b.lanes[i]; });
  }
  static Register Least(Register a, Register b) {  // b, where a is NaN
    return Each([&](std::size_t i) { return a.lanes[i] < b.lanes[i] ? a.lanes[i] : b.lanes[i]; });
  }
  static Register Greatest(Register a, Register b) {  // b, where a is NaN
    return Each([&](std::size_t i) { return a.lanes[i] > b.lanes[i] ? a.lanes[i] : b.lanes[i]; });
  }
  static Register Multiply(Register a, Register b) {
    return Each([&](std::size_t i) { return a.lanes[i] * b.lanes[i]; });
  }
  static Register MultiplyAdd(Register a, Register b, Register c) {
    return Each([&](std::size_t i) { return a.lanes[i] * b.lanes[i] + c.lanes[i]; });
  }
  static Register LowBitsToExponent(Register x) {
    std::uint32_t bits[kWidth];
    std::memcpy(bits, x.lanes, sizeof bits);
    for (std::uint32_t& word : bits) word <<= 23;
    std::memcpy(x.lanes, bits, sizeof bits);
    return x;
  }
  static float Sum(Register x) { return (x.lanes[0] + x.lanes[1]) + (x.lanes[2] + x.lanes[3]); }
  static float Most(Register x) {  // of numbers that are not NaN
    float most = x.lanes[0];
    for (std::size_t i = 1; i < kWidth; ++i) most = x.lanes[i] > most ? x.lanes[i] : most;
    return most;
  }

  // Four neighbouring columns of as many rows.
  static void LoadColumns(const float* const* rows, std::size_t column, Register (&columns)[4]) {
    for (std::size_t c = 0; c < 4; ++c) columns[c] = Each([&](std::size_t i) { return rows[i][column + c]; });
  }
};

}  // namespace
