// MemoProduct's core against its definition, on every level of the loops, and what it refuses.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/check.h"
#include "tests/product_request.h"

namespace onnx_memo::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Up to how floats are rounded, relative to the sum of the absolute terms.
bool IsProduct(const Floats& y, const Request& request) {
  std::vector<double> terms;
  const std::vector<double> expected = NaiveProduct(request, &terms);
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (!(std::abs(static_cast<double>(y[i]) - expected[i]) <= 2e-6 * terms[i] + 1e-30)) return false;
  }
  return y.size() == expected.size();
}

std::string Refusal(const Request& request) {
  return Message<InvalidArgument>([&] { Run(request, simd::BestIntegers()); });
}

TEST(product_is_as_defined_for_sizes_around_tiles_and_panels) {
  std::mt19937 random(1);
  for (const simd::IntegerLevel* level : simd::SupportedIntegers()) {
    for (const std::int64_t inner : {0, 4, 8, 20, 384}) {
      for (const std::int64_t columns : {0, 1, 47, 48, 49, 144}) {
        for (const std::int64_t rows : {0, 1, 5, 6, 7, 61}) {
          const Request request(random, rows, inner, columns);
          CHECK(IsProduct(Run(request, *level), request));
        }
      }
    }
  }
}

TEST(channels_apart_are_not_rounded) {
  std::mt19937 random(2);
  for (const simd::IntegerLevel* level : simd::SupportedIntegers()) {
    for (const Integers& channels : {Integers{0}, Integers{19}, Integers{0, 1, 2}, Integers{3, 9, 16, 19}}) {
      for (const std::int64_t columns : {48, 50}) {
        Request request(random, 7, 20, columns, channels);
        for (std::int64_t r = 0; r < 7; ++r) request.x[Size(r * 20 + channels.back())] = 1e4F;
        CHECK(IsProduct(Run(request, *level), request));
      }
    }
  }
}

TEST(all_channels_may_be_apart) {
  std::mt19937 random(3);
  Integers all(64);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::int64_t>(i);
  const Request request(random, 3, 64, 50, all);
  for (const simd::IntegerLevel* level : simd::SupportedIntegers()) CHECK(IsProduct(Run(request, *level), request));
}

// 255 * 127 on each of the most channels there may be, in one direction.
TEST(the_largest_sums_do_not_overflow) {
  std::mt19937 random(4);
  Request request(random, 1, 65536, 2);
  std::fill(request.x.begin(), request.x.end(), 1.0F);
  std::fill(request.weights.begin(), request.weights.end(), std::int8_t{-127});
  for (const simd::IntegerLevel* level : simd::SupportedIntegers()) CHECK(IsProduct(Run(request, *level), request));
}

// Rows of bytes, the scale and the least number being 1 and 0: all of what is computed are integers below 2^24.
TEST(integers_are_exact_for_all_bytes_and_weights) {
  std::mt19937 random(13);
  Request request(random, 7, 384, 50);
  for (std::size_t i = 0; i < request.x.size(); ++i) {
    const auto byte = static_cast<float>(random() % 256);
    request.x[i] = i % 384 == 0 ? 0.0F : i % 384 == 1 || random() % 2 == 0 ? 255.0F : byte;
  }
  for (std::int8_t& weight : request.weights) {
    const auto any = static_cast<std::int8_t>(static_cast<int>(random() % 256) - 128);
    weight = random() % 2 == 0 ? any : std::int8_t{-128};
  }
  for (std::size_t k = 0; k < 384; ++k) request.weights[k * 50] = 127;
  std::fill(request.scales.begin(), request.scales.end(), 1.0F);
  std::fill(request.bias.begin(), request.bias.end(), 0.0F);
  const std::vector<double> expected = NaiveProduct(request);
  for (const simd::IntegerLevel* level : simd::SupportedIntegers()) {
    const Floats y = Run(request, *level);
    for (std::size_t i = 0; i < y.size(); ++i) CHECK(static_cast<double>(y[i]) == expected[i]);
  }
}

TEST(bytes_are_the_same_on_every_level) {
  std::mt19937 random(5);
  for (std::size_t count = 0; count < 70; ++count) {
    Floats row = RandomFloats(random, count);
    for (float& x : row) x = random() % 3 == 0 ? std::nearbyint(20 * x) / 2 : x;  // halves of steps, too
    if (count > 1 && count % 2 == 0) {  // as near to the middle of two steps as floats come
      for (float& x : row) x = (static_cast<float>(random() % 255) - 84.5F) * (3.0F / 255);
      row[0] = -1;
      row[1] = 2;
    }
    std::vector<std::uint8_t> first(count);
    simd::Rounding expected{};
    for (const simd::IntegerLevel* level : simd::SupportedIntegers()) {
      std::vector<std::uint8_t> bytes(count + 1, 99);
      const simd::Rounding rounding = level->round_row(row.data(), count, bytes.data());
      CHECK(bytes[count] == 99);
      bytes.pop_back();
      if (level == simd::SupportedIntegers().front()) {
        first = bytes;
        expected = rounding;
      }
      CHECK(bytes == first);
      CHECK(std::memcmp(&rounding, &expected, sizeof rounding) == 0);
    }
  }
}

TEST(a_row_is_the_same_alone_and_among_others) {
  std::mt19937 random(6);
  for (const simd::IntegerLevel* level : simd::SupportedIntegers()) {
    const Request request(random, 130, 100, 100, {5, 50});
    const Floats all = Run(request, *level);
    for (std::int64_t r = 0; r < request.rows; ++r) {
      Request one = request;
      one.rows = 1;
      one.x.assign(request.x.begin() + r * 100, request.x.begin() + (r + 1) * 100);
      CHECK(std::memcmp(Run(one, *level).data(), all.data() + r * 100, 100 * sizeof(float)) == 0);
    }
  }
}

TEST(a_row_of_zeros_or_of_tiny_numbers_is_the_bias) {
  std::mt19937 random(7);
  for (const float x : {0.0F, 1e-44F, -1e-41F}) {
    Request request(random, 2, 20, 49);
    std::fill(request.x.begin(), request.x.end(), x);
    for (const simd::IntegerLevel* level : simd::SupportedIntegers()) CHECK(IsProduct(Run(request, *level), request));
  }
}

TEST(numbers_that_broke_break_their_row_alone) {
  std::mt19937 random(8);
  for (const simd::IntegerLevel* level : simd::SupportedIntegers()) {
    for (const float broken : {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
      for (const std::int64_t place : {0, 15, 16, 35}) {
        Request request(random, 3, 36, 50);
        const Floats before = Run(request, *level);
        request.x[Size(36 + place)] = broken;
        const Floats y = Run(request, *level);
        for (std::size_t i = 0; i < y.size(); ++i) CHECK(i / 50 == 1 ? std::isnan(y[i]) : y[i] == before[i]);
      }
    }
  }
}

TEST(a_range_beyond_floats_breaks_the_row) {
  std::mt19937 random(9);
  Request request(random, 1, 8, 3);
  request.x[0] = 3e38F;
  request.x[1] = -3e38F;
  for (const simd::IntegerLevel* level : simd::SupportedIntegers()) CHECK(std::isnan(Run(request, *level)[0]));
}

TEST(rows_without_columns_take_no_memory) {
  std::mt19937 random(12);
  Request request(random, 0, 8, 0);
  request.rows = std::int64_t{1} << 40;
  request.inner = 0;
  CHECK(Run(request, simd::BestIntegers()).empty());
}

TEST(product_refuses_channels_that_do_not_exist_or_do_not_rise) {
  std::mt19937 random(10);
  const Request request(random, 2, 8, 3, {1, 4});
  const auto with = [&](Integers channels) {
    Request other = request;
    other.channels = std::move(channels);
    return Refusal(other);
  };
  constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
  CHECK_SAYS(with({1, 8}), "channel 8 does not exist: 'x' is 8 wide");
  CHECK_SAYS(with({-1, 4}), "channel -1 does not exist");
  CHECK_SAYS(with({1, kHuge}), "does not exist");
  CHECK_SAYS(with({4, 1}), "channel 1 comes after 4; 'channels' must rise");
  CHECK_SAYS(with({4, 4}), "must rise");
}

TEST(product_refuses_shapes_that_do_not_fit) {
  std::mt19937 random(11);
  const Request request(random, 2, 8, 3);
  Request other = request;
  other.scales.push_back(1);
  CHECK_SAYS(Refusal(other), "'scales' holds 4 columns, 'sums' 3, 'bias' 3 and 'apart' 3");
  other = request;
  other.bias.clear();
  CHECK_SAYS(Refusal(other), "'bias' 0");
  other = request;
  other.scales.resize(49);
  CHECK_SAYS(Refusal(other), "'packed' has shape [1, 2, 48, 4]; for 'x' 8 wide and 49 'scales' give [2, 2, 48, 4]");
  CHECK_SAYS(Refusal(Request(random, 1, 65540, 1)), "'x' is 65540 wide");
  CHECK_SAYS(Refusal(Request(random, 1, 6, 1)), "'x' is 6 wide; give a multiple of 4");
}

}  // namespace
}  // namespace onnx_memo::testing
