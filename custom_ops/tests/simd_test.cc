// Every level of the inner loops gives what plain loops give, for all sizes around a register's width.
#include "simd/simd.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/check.h"
#include "tests/naive.h"

namespace onnx_memo::testing {
namespace {

bool Near(float a, double b) { return std::abs(static_cast<double>(a) - b) <= 1e-4 * (1 + std::abs(b)); }

const unsigned char* Bytes(const std::vector<unsigned char>& bytes) { return bytes.data() + 1; }

// The floats at an odd address.
std::vector<unsigned char> Unaligned(const Floats& numbers) {
  std::vector<unsigned char> bytes(1 + numbers.size() * sizeof(float));
  if (!numbers.empty()) std::memcpy(bytes.data() + 1, numbers.data(), numbers.size() * sizeof(float));
  return bytes;
}

TEST(every_half_converts_exactly_on_every_level) {
  Halves halves(65536);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  for (const simd::Level* level : simd::Supported()) {
    Floats floats(halves.size());
    level->halves_to_floats(halves.data(), floats.data(), halves.size());
    for (std::size_t i = 0; i < halves.size(); ++i) {
      const float expected = NaiveHalf(halves[i]);
      if (std::isnan(expected)) {
        CHECK(std::isnan(floats[i]));
      } else {
        CHECK(std::memcmp(&floats[i], &expected, sizeof expected) == 0);
      }
    }
  }
}

TEST(halves_convert_in_any_number_and_nothing_after_them_is_touched) {
  std::mt19937 random(1);
  for (const simd::Level* level : simd::Supported()) {
    for (std::size_t count = 0; count < 70; ++count) {
      const Halves halves = RandomHalves(random, count);
      Floats floats(count + 1, 7.0F);
      level->halves_to_floats(halves.data(), floats.data(), count);
      for (std::size_t i = 0; i < count; ++i) CHECK(floats[i] == NaiveHalf(halves[i]));
      CHECK(floats[count] == 7.0F);
    }
  }
}

TEST(column_distances_match_plain_loops) {
  std::mt19937 random(2);
  for (const simd::Level* level : simd::Supported()) {
    for (const std::size_t width : {1U, 5U, 64U}) {
      for (std::size_t count = 0; count < 150; ++count) {
        const std::size_t stride = count + 3;
        const Floats columns = RandomFloats(random, width * stride);
        const Floats query = RandomFloats(random, width);
        Floats distances(count + 1, -1.0F);
        const float least =
            level->column_distances(query.data(), width, columns.data(), stride, count, distances.data());
        float expected_least = std::numeric_limits<float>::infinity();
        for (std::size_t j = 0; j < count; ++j) {
          double sum = 0;
          for (std::size_t i = 0; i < width; ++i) {
            const double difference = static_cast<double>(query[i]) - static_cast<double>(columns[i * stride + j]);
            sum += difference * difference;
          }
          CHECK(Near(distances[j], sum));
          expected_least = std::min(expected_least, distances[j]);
        }
        CHECK(least == expected_least);
        CHECK(distances[count] == -1.0F);
      }
    }
  }
}

TEST(the_least_column_distance_ignores_nan) {
  const Floats query = {0.0F};
  for (const simd::Level* level : simd::Supported()) {
    for (const std::size_t count : {1U, 16U, 300U}) {
      Floats columns(count, std::numeric_limits<float>::quiet_NaN());
      Floats distances(count);
      CHECK(std::isinf(level->column_distances(query.data(), 1, columns.data(), count, count, distances.data())));
      columns[count / 2] = 3.0F;
      CHECK(level->column_distances(query.data(), 1, columns.data(), count, count, distances.data()) == 9.0F);
    }
  }
}

TEST(distance_and_inner_product_read_unaligned_floats) {
  std::mt19937 random(3);
  for (const simd::Level* level : simd::Supported()) {
    for (std::size_t count = 0; count < 140; ++count) {
      const Floats query = RandomFloats(random, count);
      const Floats other = RandomFloats(random, count);
      const std::vector<unsigned char> bytes = Unaligned(other);
      double distance = 0;
      double product = 0;
      for (std::size_t i = 0; i < count; ++i) {
        const double a = static_cast<double>(query[i]);
        const double b = static_cast<double>(other[i]);
        distance += (a - b) * (a - b);
        product += a * b;
      }
      CHECK(Near(level->distance(query.data(), Bytes(bytes), count), distance));
      CHECK(Near(level->inner_product(query.data(), Bytes(bytes), count), product));
    }
  }
}

TEST(compare_gives_both_squared_norms) {
  std::mt19937 random(5);
  for (const simd::Level* level : simd::Supported()) {
    for (std::size_t count = 0; count < 140; ++count) {
      const Floats a = RandomFloats(random, count);
      const Halves b = RandomHalves(random, count);
      double difference = 0;
      double norm = 0;
      for (std::size_t i = 0; i < count; ++i) {
        const auto x = static_cast<double>(NaiveHalf(b[i]));
        difference += (static_cast<double>(a[i]) - x) * (static_cast<double>(a[i]) - x);
        norm += x * x;
      }
      const simd::Compared compared = level->compare(a.data(), b.data(), count);
      CHECK(Near(compared.difference, difference));
      CHECK(Near(compared.norm, norm));
    }
  }
}

TEST(scaled_halves_are_added_and_nothing_after_them_is_touched) {
  std::mt19937 random(6);
  for (const simd::Level* level : simd::Supported()) {
    for (std::size_t count = 0; count < 70; ++count) {
      const Halves from = RandomHalves(random, count);
      const Floats before = RandomFloats(random, count + 1);
      Floats to = before;
      level->add_scaled_halves(0.7F, from.data(), to.data(), count);
      for (std::size_t i = 0; i < count; ++i) {
        CHECK(Near(to[i], static_cast<double>(before[i]) + 0.7 * static_cast<double>(NaiveHalf(from[i]))));
      }
      CHECK(to[count] == before[count]);
    }
  }
}

// By std::exp in double.
std::vector<double> NaiveSoftmax(const Floats& numbers) {
  double most = -std::numeric_limits<double>::infinity();
  for (const float x : numbers) most = std::max(most, static_cast<double>(x));
  std::vector<double> result;
  double sum = 0;
  for (const float x : numbers) sum += result.emplace_back(std::exp(static_cast<double>(x) - most));
  for (double& x : result) x /= sum;
  return result;
}

// That of a row by `attend`: the weights of values that are the rows of the unit matrix.
void Softmax(const simd::Level& level, float scale, const Floats& bias, Floats* row) {
  const std::size_t count = bias.size();
  Floats keys(count * count), values(count * count);
  for (std::size_t i = 0; i < count; ++i) {
    keys[i * count] = (*row)[i];
    values[i * count + i] = 1.0F;
  }
  const simd::AttendedHead head = {count, 1, count, keys.data(), values.data(), count};
  Floats packed(head.packed()), tile(head.tile());
  Floats whole(simd::WholePanels(count), -std::numeric_limits<float>::infinity());
  std::copy(bias.begin(), bias.end(), whole.begin());
  const float one = 1.0F;
  level.pack_head(head, packed.data());
  level.attend(head, packed.data(), {1, &one, 1, scale, whole.data(), 0, row->data(), count}, tile.data());
}

TEST(softmax_matches_plain_loops_for_any_length) {
  std::mt19937 random(7);
  for (const simd::Level* level : simd::Supported()) {
    for (std::size_t count = 1; count < 150; ++count) {
      const Floats row = RandomFloats(random, count);
      const Floats bias = RandomFloats(random, count);
      Floats scores(count);
      for (std::size_t i = 0; i < count; ++i) scores[i] = 3.0F * row[i] + bias[i];
      const std::vector<double> expected = NaiveSoftmax(scores);
      Floats output = row;
      output.push_back(7.0F);
      Softmax(*level, 3.0F, bias, &output);
      for (std::size_t i = 0; i < count; ++i) {
        CHECK(std::abs(static_cast<double>(output[i]) - expected[i]) <= 3e-6 * expected[i]);
      }
      CHECK(output[count] == 7.0F);
    }
  }
}

// Beside one 0, so that the sum hardly adds to the error: 2e-7 are the exp's, the rest is the division's.
TEST(softmax_is_exact_down_to_the_smallest_floats) {
  for (const simd::Level* level : simd::Supported()) {
    double worst = 0;
    for (float x = 0; x > -87.3F; x -= 0.000137F * (1.0F - x)) {
      Floats row = {0, x};
      const Floats bias = {0, 0};
      Softmax(*level, 1.0F, bias, &row);
      const double exp = std::exp(static_cast<double>(x));
      worst = std::max(worst, std::abs(static_cast<double>(row[1]) * (1 + exp) / exp - 1));
    }
    CHECK(worst < 4e-7);
  }
}

TEST(softmax_of_very_small_scores_is_zero) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const simd::Level* level : simd::Supported()) {
    for (const std::size_t count : {2U, 16U, 33U}) {
      for (const float small : {-kInfinity, std::numeric_limits<float>::lowest(), -1e30F, -1000.0F, -105.0F}) {
        for (std::size_t at = 0; at < count; ++at) {
          const Floats bias(count, 0.0F);
          Floats row(count, small);
          row[at] = 0.0F;
          Softmax(*level, 1.0F, bias, &row);
          for (std::size_t i = 0; i < count; ++i) CHECK(row[i] == (i == at ? 1.0F : 0.0F));
        }
      }
    }
  }
}

TEST(softmax_of_equal_scores_is_uniform_however_low_they_are) {
  for (const simd::Level* level : simd::Supported()) {
    for (const float low : {std::numeric_limits<float>::lowest(), std::numeric_limits<float>::max(), -3.0F}) {
      const Floats bias(32, low);
      Floats row(32, 1.0F);
      Softmax(*level, 1.0F, bias, &row);
      CHECK(row == Floats(32, 1.0F / 32.0F));
    }
  }
}

TEST(softmax_of_nan_of_infinity_and_of_minus_infinity_alone_is_nan) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const simd::Level* level : simd::Supported()) {
    for (const std::size_t count : {1U, 5U, 16U, 37U}) {
      for (std::size_t at = 0; at < count; ++at) {
        for (const float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity}) {
          Floats bias(count, 0.0F);
          bias[at] = bad;
          Floats row(count, 1.0F);
          Softmax(*level, 1.0F, bias, &row);
          CHECK(std::all_of(row.begin(), row.end(), [](float x) { return std::isnan(x); }));
        }
      }
      const Floats bias(count, -kInfinity);
      Floats row(count, 1.0F);
      Softmax(*level, 1.0F, bias, &row);
      CHECK(std::all_of(row.begin(), row.end(), [](float x) { return std::isnan(x); }));
    }
  }
}

void CheckProduct(const simd::Level& level, std::size_t rows, std::size_t depth, std::size_t columns,
                  std::mt19937& random) {
  const std::size_t b_stride = columns + 5;
  const std::size_t output_stride = columns + 2;
  const Halves a = RandomHalves(random, rows * depth);
  const Floats b = RandomFloats(random, depth * b_stride);
  const Floats before = RandomFloats(random, rows * output_stride);
  Floats output = before;
  level.add_half_product(a.data(), rows, depth, b.data(), b_stride, columns, output.data(), output_stride);
  const std::size_t a_stride = depth + 3;
  Floats wide(rows * a_stride, std::numeric_limits<float>::quiet_NaN());
  for (std::size_t i = 0; i < a.size(); ++i) wide[i / depth * a_stride + i % depth] = NaiveHalf(a[i]);
  Floats single = before;
  level.add_product(wide.data(), rows, depth, a_stride, b.data(), b_stride, columns, single.data(), output_stride);
  CHECK(single == output);
  for (std::size_t i = 0; i < rows * output_stride; ++i) {
    const std::size_t row = i / output_stride;
    const std::size_t column = i % output_stride;
    double sum = static_cast<double>(before[i]);
    for (std::size_t j = 0; column < columns && j < depth; ++j) {
      sum += static_cast<double>(NaiveHalf(a[row * depth + j])) * static_cast<double>(b[j * b_stride + column]);
    }
    CHECK(std::abs(static_cast<double>(output[i]) - sum) < 1e-3);
  }
}

TEST(product_adds_to_the_output_for_any_shape) {
  std::mt19937 random(4);
  for (const simd::Level* level : simd::Supported()) {
    for (const std::size_t rows : {0U, 1U, 2U, 3U, 7U, 12U, 13U, 31U}) {
      for (const std::size_t depth : {0U, 1U, 3U, 17U, 128U, 131U}) {
        for (const std::size_t columns : {0U, 1U, 7U, 16U, 32U, 33U, 64U, 80U, 130U}) {
          CheckProduct(*level, rows, depth, columns, random);
        }
      }
    }
  }
}

// What 5 queries get of packed keys and values, with a bias of zeros.
Floats Attended(const simd::Level& level, const simd::AttendedHead& head, const Floats& packed, const Floats& query) {
  Floats context(5 * head.value_width), tile(head.tile());
  Floats bias(simd::WholePanels(head.count), -std::numeric_limits<float>::infinity());
  std::fill_n(bias.begin(), head.count, 0.0F);
  level.attend(head, packed.data(),
               {5, query.data(), head.key_width, 0.2F, bias.data(), 0, context.data(), head.value_width}, tile.data());
  return context;
}

// Stored keys and values give the very context of the same floats, and so do tokens that are packed again.
void CheckStored(const simd::Level& level, std::size_t count, std::size_t key_width, std::size_t value_width,
                 std::mt19937& random) {
  const Halves keys = RandomHalves(random, key_width * count);
  const Halves values = RandomHalves(random, count * value_width);
  const Floats query = RandomFloats(random, 5 * key_width);
  const std::size_t stride = key_width + value_width;
  Floats rows(count * stride);
  for (std::size_t j = 0; j < count; ++j) {
    for (std::size_t i = 0; i < key_width; ++i) rows[j * stride + i] = NaiveHalf(keys[i * count + j]);
    for (std::size_t i = 0; i < value_width; ++i) {
      rows[j * stride + key_width + i] = NaiveHalf(values[j * value_width + i]);
    }
  }
  const simd::AttendedHead head = {count, key_width, value_width, rows.data(), rows.data() + key_width, stride};
  Floats stored(head.packed(), 0.0F), packed(head.packed(), 0.0F);
  level.pack_stored(head, {keys.data(), values.data()}, stored.data());
  level.pack_head(head, packed.data());
  CHECK(Attended(level, head, stored, query) == Attended(level, head, packed, query));
  for (std::size_t j = count % 3; j < count; j += 3) {
    const Floats key = RandomFloats(random, 2 * key_width);
    const Floats value = RandomFloats(random, value_width);
    for (std::size_t i = 0; i < key_width; ++i) rows[j * stride + i] = key[2 * i];
    std::copy(value.begin(), value.end(), rows.begin() + static_cast<std::ptrdiff_t>(j * stride + key_width));
    level.repack_token(head, j, key.data(), 2, value.data(), stored.data());
  }
  level.pack_head(head, packed.data());
  CHECK(Attended(level, head, stored, query) == Attended(level, head, packed, query));
}

TEST(stored_keys_and_values_are_packed_as_floats_are) {
  std::mt19937 random(8);
  for (const simd::Level* level : simd::Supported()) {
    for (const std::size_t count : {1U, 3U, 4U, 5U, 8U, 16U, 17U, 32U, 33U, 70U}) {
      for (const std::size_t key_width : {1U, 6U, 32U}) {
        for (const std::size_t value_width : {1U, 5U, 16U, 20U, 33U}) {
          CheckStored(*level, count, key_width, value_width, random);
        }
      }
    }
  }
}

TEST(the_best_level_is_the_last_supported) { CHECK(&simd::Best() == simd::Supported().back()); }

}  // namespace
}  // namespace onnx_memo::testing
