// A row plus another one, normalized as LayerNormalization has it, written once over a processor's vectors.
//
// Two passes for the mean and for the squares, as the mean of squares less the square of the mean cancels.
#pragma once

#include <cstddef>

#include "simd/integers.h"

namespace {

// The sum of term(i) of registers and of single numbers, which stand for places i, in an order that `count` decides.
template <typename Vector, typename RegisterTerm, typename Term>
float SumOf(std::size_t count, RegisterTerm register_term, Term term) {
  constexpr std::size_t kSums = 4;
  typename Vector::Register sums[kSums];
  for (auto& sum : sums) sum = Vector::Broadcast(0.0F);
  std::size_t i = 0;
  for (; i + kSums * Vector::kWidth <= count; i += kSums * Vector::kWidth) {
    for (std::size_t s = 0; s < kSums; ++s) sums[s] = Vector::Add(sums[s], register_term(i + s * Vector::kWidth));
  }
  for (; i + Vector::kWidth <= count; i += Vector::kWidth) sums[0] = Vector::Add(sums[0], register_term(i));
  float sum = Vector::Sum(Vector::Add(Vector::Add(sums[0], sums[1]), Vector::Add(sums[2], sums[3])));
  for (; i < count; ++i) sum += term(i);
  return sum;
}

template <typename Vector>
void NormalizeRow(const onnx_memo::simd::NormRow& row, std::size_t count, float* sum, float* y) {
  const auto size = static_cast<float>(count);
  const float mean = SumOf<Vector>(
                         count,
                         [&](std::size_t i) {
                           const auto x = Vector::Add(Vector::Load(sum + i), Vector::Load(row.residual + i));
                           Vector::Store(sum + i, x);
                           return x;
                         },
                         [&](std::size_t i) { return sum[i] += row.residual[i]; }) /
                     size;
  const auto means = Vector::Broadcast(mean);
  const float variance = SumOf<Vector>(
                             count,
                             [&](std::size_t i) {
                               const auto difference = Vector::Subtract(Vector::Load(sum + i), means);
                               return Vector::Multiply(difference, difference);
                             },
                             [&](std::size_t i) { return (sum[i] - mean) * (sum[i] - mean); }) /
                         size;
  const float factor = 1.0F / Vector::SquareRoot(variance + row.epsilon);
  const auto factors = Vector::Broadcast(factor);
  std::size_t i = 0;
  for (; i + Vector::kWidth <= count; i += Vector::kWidth) {
    const auto normal = Vector::Multiply(Vector::Subtract(Vector::Load(sum + i), means), factors);
    Vector::Store(y + i, Vector::MultiplyAdd(normal, Vector::Load(row.gamma + i), Vector::Load(row.beta + i)));
  }
  for (; i < count; ++i) y[i] = (sum[i] - mean) * factor * row.gamma[i] + row.beta[i];
}

}  // namespace
