// Products in 8 bits for any processor: short arrays, which compilers turn into its vectors.
#include <cmath>
#include <cstring>

#include "simd/integer_kernels.h"
#include "simd/levels.h"
#include "simd/portable_vector.h"

namespace {

struct PortableIntegers : Portable {
  static constexpr std::size_t kTileRegisters = 2;

  struct Integers {
    std::int32_t lanes[kWidth];
  };
  using Sums = Integers;
  struct Weights {
    std::int8_t bytes[kWidth * kGroup];
  };
  struct Four {
    std::uint8_t bytes[kGroup];
  };

  template <typename Lane>
  static Integers EachInteger(Lane lane) {
    Integers result;
    for (std::size_t i = 0; i < kWidth; ++i) result.lanes[i] = lane(i);
    return result;
  }

  // To the nearest whole number, the even one of two, whatever the processor's mode is. None that rows are rounded to
  // is as large as 1024.
  static std::int32_t RoundOne(float x) {
    constexpr float kMost = 1024.0F;
    if (!(x > -kMost && x < kMost)) return 0;
    const auto down = static_cast<std::int32_t>(x) - (x < static_cast<float>(static_cast<std::int32_t>(x)) ? 1 : 0);
    const float rest = x - static_cast<float>(down);
    const bool up = rest > 0.5F || (rest == 0.5F && (down & 1) != 0);
    return down + (up ? 1 : 0);
  }
  static Integers Round(Register x) {
    return EachInteger([&](std::size_t i) { return RoundOne(x.lanes[i]); });
  }
  static void StoreBytes(std::uint8_t* to, Integers whole) {
    for (std::size_t i = 0; i < kWidth; ++i) {
      to[i] = static_cast<std::uint8_t>(whole.lanes[i] < 0 ? 0 : whole.lanes[i] > 255 ? 255 : whole.lanes[i]);
    }
  }

  static Sums NoSum() {
    return EachInteger([](std::size_t) { return 0; });
  }
  static Weights LoadWeights(const std::int8_t* from) {
    Weights weights;
    std::memcpy(weights.bytes, from, sizeof weights.bytes);
    return weights;
  }
  static Four BroadcastFour(const std::uint8_t* from) {
    Four four;
    std::memcpy(four.bytes, from, sizeof four.bytes);
    return four;
  }
  static void AddDots(const Four& four, const Weights& weights, Sums* sums) {
    for (std::size_t i = 0; i < kWidth; ++i) {
      for (std::size_t k = 0; k < kGroup; ++k) sums->lanes[i] += four.bytes[k] * weights.bytes[i * kGroup + k];
    }
  }
  static Integers Total(Sums sums, Integers) { return sums; }
  static Integers LoadIntegers(const std::int32_t* from) {
    return EachInteger([from](std::size_t i) { return from[i]; });
  }
  static Register ToFloats(Integers whole) {
    return Each([&](std::size_t i) { return static_cast<float>(whole.lanes[i]); });
  }

  static Register MinusAbsolute(Register x) {
    return Each([&](std::size_t i) { return -std::fabs(x.lanes[i]); });
  }
  static Register Reciprocal(Register x) {
    return Each([&](std::size_t i) { return 1.0F / x.lanes[i]; });
  }
  static float SquareRoot(float x) { return std::sqrt(x); }
};

}  // namespace

const onnx_memo::simd::IntegerLevel onnx_memo::simd::kIntegersPortable = MakeIntegerLevel<PortableIntegers>("portable");
