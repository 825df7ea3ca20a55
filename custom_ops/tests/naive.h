// The operators again, as plainly as they can be written, and random inputs for them.
#pragma once

#include <algorithm>
#include <array>
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

struct FetchCase {
  Integers entry;
  std::int64_t width;
  Halves payload;
  Integers offsets;
  Integers lengths;
  std::int64_t padded_length;
};

inline Floats NaiveFetch(const FetchCase& request) {
  Floats output;
  for (const std::int64_t e : request.entry) {
    const auto at = static_cast<std::size_t>(e);
    const std::int64_t rows = e < 0 ? 0 : request.lengths[at];
    for (std::int64_t i = 0; i < request.padded_length * request.width; ++i) {
      const bool stored = i / request.width < rows;
      output.push_back(stored ? NaiveHalf(request.payload[Size(request.offsets[at] * request.width + i)]) : 0.0F);
    }
  }
  return output;
}

struct ContextCase {
  Integers entry;
  std::int64_t heads;
  std::int64_t head_width;
  std::int64_t padded_length;
  Floats values;
  Halves payload;
  Integers offsets;
  Integers lengths;
};

// One element of the output.
inline double NaiveContext(const ContextCase& request, std::int64_t b, std::int64_t i, std::int64_t column) {
  const std::int64_t e = request.entry[Size(b)];
  const std::int64_t n = e < 0 ? 0 : request.lengths[Size(e)];
  const std::int64_t width = request.heads * request.head_width;
  const std::int64_t head = column / request.head_width;
  double sum = 0;
  for (std::int64_t j = 0; i < n && j < n; ++j) {
    const std::int64_t at = request.offsets[Size(e)] * request.heads + (head * n + i) * n + j;
    sum += static_cast<double>(NaiveHalf(request.payload[Size(at)])) *
           static_cast<double>(request.values[Size((b * request.padded_length + j) * width + column)]);
  }
  return sum;
}

struct MergeCase {
  Integers rows;
  Integers entry;
  Integers length;
  std::int64_t padded_length;
  std::int64_t width;
  Floats states;
  Floats spread;
  Floats final;
  Halves influence;
  Integers offsets;
  Integers squares;
};

// One element of the output.
inline double NaiveMerge(const MergeCase& request, std::int64_t b, std::int64_t t, std::int64_t column) {
  const std::int64_t e = request.entry[Size(b)];
  const std::int64_t n = request.length[Size(b)];
  if (t >= n) return 0;
  for (std::size_t r = 0; r < request.rows.size(); ++r) {
    if (request.rows[r] == b * request.padded_length + t) {
      return static_cast<double>(request.states[r * Size(request.width) + Size(column)]);
    }
  }
  const std::int64_t stored = (request.offsets[Size(e)] + t) * request.width + column;
  auto sum = static_cast<double>(request.final[Size(stored)]);
  for (std::size_t r = 0; r < request.rows.size(); ++r) {
    const std::int64_t token = request.rows[r] - b * request.padded_length;
    if (token < 0 || token >= n) continue;
    sum += static_cast<double>(NaiveHalf(request.influence[Size(request.squares[Size(e)] + token * n + t)])) *
           static_cast<double>(request.spread[r * Size(request.width) + Size(column)]);
  }
  return sum;
}

struct AttentionCase {
  Integers rows;
  Integers entry;
  Integers length;
  std::int64_t padded_length;
  std::int64_t heads;
  std::int64_t key_width;
  std::int64_t value_width;
  Floats query;
  Floats key;
  Floats value;
  std::int64_t stored_rows;
  Halves keys;
  Halves values;
  Integers offsets;
  float scale;
  std::array<std::int64_t, 4> bias_dims;
  Floats bias;

  std::int64_t running() const { return static_cast<std::int64_t>(rows.size()); }

  // The packed row of a place of the batch, or -1.
  std::int64_t Packed(std::int64_t b, std::int64_t t) const {
    const auto found = std::lower_bound(rows.begin(), rows.end(), b * padded_length + t);
    return found == rows.end() || *found != b * padded_length + t ? -1 : found - rows.begin();
  }

  float KeyAt(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) const {
    const std::int64_t r = Packed(b, j);
    if (r >= 0) return key[Size((h * key_width + i) * running() + r)];
    const std::int64_t first = offsets[Size(entry[Size(b)])] * heads * key_width;
    return NaiveHalf(keys[Size(first + (h * key_width + i) * length[Size(b)] + j)]);
  }

  float ValueAt(std::int64_t b, std::int64_t h, std::int64_t j, std::int64_t i) const {
    const std::int64_t r = Packed(b, j);
    if (r >= 0) return value[Size((h * running() + r) * value_width + i)];
    const std::int64_t first = offsets[Size(entry[Size(b)])] * heads * value_width;
    return NaiveHalf(values[Size(first + (h * length[Size(b)] + j) * value_width + i)]);
  }

  float BiasAt(std::int64_t b, std::int64_t h, std::int64_t t, std::int64_t j) const {
    const std::array<std::int64_t, 4> index = {b, h, t, j};
    std::int64_t at = 0;
    for (std::size_t i = 0; i < 4; ++i) at = at * bias_dims[i] + (bias_dims[i] == 1 ? 0 : index[i]);
    return bias[Size(at)];
  }
};

// Queries, keys and values of each packed row side by side: those of all heads, then the next.
inline Floats NaiveSideBySide(const AttentionCase& request) {
  Floats qkv;
  const std::int64_t running = request.running();
  for (std::int64_t r = 0; r < running; ++r) {
    const auto append = [&](const Floats& from, std::int64_t width, bool turned) {
      for (std::int64_t h = 0; h < request.heads; ++h) {
        for (std::int64_t i = 0; i < width; ++i) {
          qkv.push_back(from[Size(turned ? (h * width + i) * running + r : (h * running + r) * width + i)]);
        }
      }
    };
    append(request.query, request.key_width, false);
    append(request.key, request.key_width, true);
    append(request.value, request.value_width, false);
  }
  return qkv;
}

// The context of one packed row of one head.
inline std::vector<double> NaiveAttention(const AttentionCase& request, std::int64_t h, std::int64_t r) {
  const std::int64_t b = request.rows[Size(r)] / request.padded_length;
  const std::int64_t t = request.rows[Size(r)] % request.padded_length;
  const std::int64_t n = request.length[Size(b)];
  std::vector<double> weights;
  double most = -std::numeric_limits<double>::infinity();
  for (std::int64_t j = 0; j < n; ++j) {
    double score = 0;
    for (std::int64_t i = 0; i < request.key_width; ++i) {
      score += static_cast<double>(request.query[Size((h * request.running() + r) * request.key_width + i)]) *
               static_cast<double>(request.KeyAt(b, h, i, j));
    }
    weights.push_back(static_cast<double>(request.scale) * score + static_cast<double>(request.BiasAt(b, h, t, j)));
    most = std::max(most, weights.back());
  }
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - most);
  std::vector<double> context(Size(request.value_width));
  for (std::int64_t j = 0; j < n; ++j) {
    for (std::int64_t i = 0; i < request.value_width; ++i) {
      context[Size(i)] += weights[Size(j)] / sum * static_cast<double>(request.ValueAt(b, h, j, i));
    }
  }
  return context;
}

struct SelfAttentionCase {
  std::int64_t heads, key_width, value_width;
  Integers rows;
  std::int64_t padded_length;
  float scale;
  std::array<std::int64_t, 4> bias_dims;
  Floats bias;
  Floats qkv;

  std::int64_t count() const { return static_cast<std::int64_t>(rows.size()); }
  std::int64_t width() const { return heads * (2 * key_width + value_width); }
  const float* Query(std::int64_t r, std::int64_t h) const { return &qkv[Size(r * width() + h * key_width)]; }
  const float* Key(std::int64_t r, std::int64_t h) const { return Query(r, h) + heads * key_width; }
  const float* Value(std::int64_t r, std::int64_t h) const {
    return &qkv[Size(r * width() + heads * 2 * key_width + h * value_width)];
  }

  // What is added to the score of row r and row j of its sequence.
  float BiasAt(std::int64_t h, std::int64_t r, std::int64_t j) const {
    const std::int64_t row = rows[Size(r)];
    const std::array<std::int64_t, 4> index = {row / padded_length, h, row % padded_length,
                                               rows[Size(j)] % padded_length};
    std::int64_t at = 0;
    for (std::size_t i = 0; i < 4; ++i) at = at * bias_dims[i] + (bias_dims[i] == 1 ? 0 : index[i]);
    return bias[Size(at)];
  }
};

// The context of one row of one head.
inline std::vector<double> NaiveSelfAttention(const SelfAttentionCase& request, std::int64_t h, std::int64_t r) {
  std::vector<double> scores(request.rows.size(), -std::numeric_limits<double>::infinity());
  double most = -std::numeric_limits<double>::infinity();
  const auto same = [&](std::int64_t j) {
    return request.rows[Size(j)] / request.padded_length == request.rows[Size(r)] / request.padded_length;
  };
  for (std::int64_t j = 0; j < request.count(); ++j) {
    if (!same(j)) continue;
    double score = 0;
    for (std::int64_t i = 0; i < request.key_width; ++i) {
      score += static_cast<double>(request.Query(r, h)[i]) * static_cast<double>(request.Key(j, h)[i]);
    }
    scores[Size(j)] = static_cast<double>(request.scale) * score + static_cast<double>(request.BiasAt(h, r, j));
    most = std::max(most, scores[Size(j)]);
  }
  double sum = 0;
  std::vector<double> context(Size(request.value_width));
  for (std::int64_t j = 0; j < request.count(); ++j) {
    if (!same(j)) continue;
    const double power = std::exp(scores[Size(j)] - most);
    sum += power;
    for (std::int64_t i = 0; i < request.value_width; ++i) {
      context[Size(i)] += power * static_cast<double>(request.Value(j, h)[i]);
    }
  }
  for (double& number : context) number /= sum;
  return context;
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

struct ProductCase {
  std::int64_t rows = 0, inner = 0, columns = 0;
  Floats x;                          // [rows, inner]
  std::vector<std::int8_t> weights;  // [inner, columns]
  Floats scales, bias;
  Integers channels;
  Floats apart;  // [channels, columns]

  std::vector<std::int8_t> Packed() const {
    std::vector<std::int8_t> packed(Size((columns + 47) / 48 * 48 * inner));
    for (std::int64_t k = 0; k < inner; ++k) {
      for (std::int64_t c = 0; c < columns; ++c) {
        packed[Size(((c / 48 * (inner / 4) + k / 4) * 48 + c % 48) * 4 + k % 4)] = weights[Size(k * columns + c)];
      }
    }
    return packed;
  }

  std::vector<std::int32_t> Sums() const {
    std::vector<std::int32_t> sums(Size(columns));
    for (std::size_t i = 0; i < weights.size(); ++i) sums[i % sums.size()] += weights[i];
    return sums;
  }
};

inline bool StaysApart(const ProductCase& request, std::int64_t k) {
  return std::find(request.channels.begin(), request.channels.end(), k) != request.channels.end();
}

// What a row is rounded to: low + steps / 255 of the width. As the definition says it, in floats of 32 bits.
inline std::vector<double> NaiveRounded(const ProductCase& request, std::int64_t r) {
  Floats row(Size(request.inner));
  for (std::int64_t k = 0; k < request.inner; ++k) {
    row[Size(k)] = StaysApart(request, k) ? 0.0F : request.x[Size(r * request.inner + k)];
  }
  if (row.empty()) return {};
  const float low = *std::min_element(row.begin(), row.end());
  const float width = std::max(*std::max_element(row.begin(), row.end()) - low, std::ldexp(1.0F, -118));
  const float inverse = 255.0F / width;
  std::vector<double> rounded;
  for (const float x : row) {
    const float steps = std::clamp(std::nearbyint((x - low) * inverse), 0.0F, 255.0F);
    rounded.push_back(static_cast<double>(low) + static_cast<double>(steps) * static_cast<double>(width) / 255);
  }
  return rounded;
}

// The product, and the sums of its absolute terms, relative to which floats err.
inline std::vector<double> NaiveProduct(const ProductCase& request, std::vector<double>* terms = nullptr) {
  std::vector<double> y(Size(request.rows * request.columns));
  if (terms != nullptr) terms->assign(y.size(), 0.0);
  for (std::int64_t r = 0; r < request.rows; ++r) {
    const std::vector<double> rounded = NaiveRounded(request, r);
    for (std::int64_t c = 0; c < request.columns; ++c) {
      double sum = 0, absolute = 0;
      const auto add = [&](double term) {
        sum += term;
        absolute += std::abs(term);
      };
      add(static_cast<double>(request.bias[Size(c)]));
      for (std::int64_t k = 0; k < request.inner; ++k) {
        add(rounded[Size(k)] * static_cast<double>(request.weights[Size(k * request.columns + c)]) *
            static_cast<double>(request.scales[Size(c)]));
      }
      for (std::size_t o = 0; o < request.channels.size(); ++o) {
        add(static_cast<double>(request.x[Size(r * request.inner + request.channels[o])]) *
            static_cast<double>(request.apart[o * Size(request.columns) + Size(c)]));
      }
      y[Size(r * request.columns + c)] = sum;
      if (terms != nullptr) (*terms)[Size(r * request.columns + c)] = absolute;
    }
  }
  return y;
}

}  // namespace onnx_memo::testing
