// Random products in 8 bits, and what their jobs take.
#pragma once

#include <random>
#include <utility>
#include <vector>

#include "kernels/memo_product.h"
#include "tests/naive.h"

namespace onnx_memo::testing {

struct Request : ProductCase {
  Request(std::mt19937& random, std::int64_t its_rows, std::int64_t its_inner, std::int64_t its_columns,
          Integers its_channels = {}) {
    rows = its_rows;
    inner = its_inner;
    columns = its_columns;
    channels = std::move(its_channels);
    x = RandomFloats(random, Size(rows * inner));
    scales = RandomFloats(random, Size(columns));
    bias = RandomFloats(random, Size(columns));
    apart = RandomFloats(random, channels.size() * Size(columns));
    weights.resize(Size(inner * columns));
    for (std::int8_t& weight : weights) weight = static_cast<std::int8_t>(static_cast<int>(random() % 255) - 127);
  }
};

// A request's weights as a job takes them. Neither may move.
struct Packed {
  explicit Packed(const Request& request) : packed(request.Packed()), sums(request.Sums()) {
    weights = {{packed.data(), {(request.columns + 47) / 48, request.inner / 4, 48, 4}},
               {sums.data(), {static_cast<std::int64_t>(sums.size())}},
               {request.scales.data(), {static_cast<std::int64_t>(request.scales.size())}},
               {request.bias.data(), {static_cast<std::int64_t>(request.bias.size())}},
               Vector(request.channels),
               Matrix(request.apart, static_cast<std::int64_t>(request.channels.size()), request.columns)};
  }

  std::vector<std::int8_t> packed;
  std::vector<std::int32_t> sums;
  ProductWeights weights;
};

template <typename Job>
void RunAll(Job& job) {
  for (std::size_t task = 0; task < job.rounding_tasks(); ++task) job.Round(task);
  for (std::size_t task = 0; task < job.tasks(); ++task) job.Run(task);
}

inline Floats Run(const Request& request, const simd::IntegerLevel& level,
                  simd::Activation activation = simd::Activation::kNone) {
  const Packed packed(request);
  Floats y(Size(request.rows * request.columns), -7.0F);
  ProductJob job(Matrix(request.x, request.rows, request.inner), packed.weights,
                 {y.data(), {request.rows, request.columns}}, level, activation);
  RunAll(job);
  return y;
}

}  // namespace onnx_memo::testing
