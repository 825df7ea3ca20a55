// MemoSegments' core against its definition.
#include "kernels/memo_segments.h"
#include "tests/check.h"
#include "tests/naive.h"

namespace onnx_memo::testing {
namespace {

std::int64_t LengthOf(const Integers& mask) { return RealLength(mask.data(), static_cast<std::int64_t>(mask.size())); }

TEST(only_ones_followed_by_zeros_have_a_length) {
  CHECK(LengthOf({1, 1, 0}) == 2);
  CHECK(LengthOf({1}) == 1);
  CHECK(LengthOf({0, 0}) == 0);
  CHECK(LengthOf({}) == 0);
  for (const Integers& mask : {Integers{0, 1}, Integers{1, 0, 1}, Integers{2, 0}, Integers{1, -1}, Integers{0, 3, 0}}) {
    CHECK(LengthOf(mask) == kIrregular);
  }
}

TEST(every_token_weighs_in_one_segment) {
  for (std::int64_t length = 0; length <= 40; ++length) {
    const std::int64_t count = length + 3;
    Floats weights(Size(kSegments * count), -1.0F);
    FillSegmentWeights(length, count, weights.data());
    for (std::int64_t s = 0; s < kSegments; ++s) {
      const auto inside = [&](std::int64_t t) { return t < length && kSegments * t / length == s; };
      std::int64_t tokens = 0;
      for (std::int64_t t = 0; t < count; ++t) tokens += inside(t);
      for (std::int64_t t = 0; t < count; ++t) {
        const float expected = inside(t) ? 1.0F / static_cast<float>(tokens) : 0.0F;
        CHECK(weights[Size(s * count + t)] == expected);
      }
    }
  }
}

}  // namespace
}  // namespace onnx_memo::testing
