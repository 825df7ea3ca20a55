// MemoProductNorm: the product in 8 bits, added to a residual and normalized.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/memo_product.h"

namespace onnx_memo {

struct NormInputs {
  std::vector<std::int64_t> residual_dims;
  View<const float, 2> residual;  // [R, M]
  View<const float, 1> gamma;     // [M]
  View<const float, 1> beta;      // [M]
  float epsilon = 0;
};

// sum[r] = residual[r] plus the product of x[r], and y[r] is that, normalized.
class ProductNormJob {
 public:
  // `sum` and `y` are [R, M], as is `inputs.dims` with its last dimensions but one as rows. Throws InvalidArgument as
  // ProductJob does, and when the shapes of `norm` do not fit. `level` must outlive the job.
  ProductNormJob(const ProductInputs& inputs, const NormInputs& norm, View<float, 2> sum, View<float, 2> y,
                 const simd::IntegerLevel& level);

  std::int64_t work() const { return product_.work(); }

  // The tasks of the product. Who ends the last of a block of rows normalizes them: they are still in its cache.
  std::size_t rounding_tasks() const { return product_.rounding_tasks(); }
  void Round(std::size_t task) noexcept { product_.Round(task); }
  std::size_t tasks() const { return product_.tasks(); }
  void Run(std::size_t task) noexcept;

 private:
  void Normalize(std::int64_t block) const noexcept;

  ProductJob product_;
  NormInputs norm_;
  View<float, 2> sum_;
  View<float, 2> y_;
  const simd::IntegerLevel& level_;
  std::vector<std::atomic<std::int64_t>> done_;  // tasks of each block
};

class MemoProductNorm {
 public:
  static constexpr const char* kName = "MemoProductNorm";
  enum Input : std::size_t {
    kX,
    kPacked,
    kSums,
    kScales,
    kBias,
    kChannels,
    kApart,
    kResidual,
    kGamma,
    kBeta,
    kEpsilon,
  };
  static constexpr TensorSpec kInputs[] = {
      {"x", ort::ElementType::kFloat},       {"packed", ort::ElementType::kInt8},
      {"sums", ort::ElementType::kInt32},    {"scales", ort::ElementType::kFloat},
      {"bias", ort::ElementType::kFloat},    {"channels", ort::ElementType::kInt64},
      {"apart", ort::ElementType::kFloat},   {"residual", ort::ElementType::kFloat},
      {"gamma", ort::ElementType::kFloat},   {"beta", ort::ElementType::kFloat},
      {"epsilon", ort::ElementType::kFloat},
  };
  enum Output : std::size_t { kY, kSum };
  static constexpr TensorSpec kOutputs[] = {
      {"y", ort::ElementType::kFloat},
      {"sum", ort::ElementType::kFloat},
  };

  void Compute(const Context& context) const;
};

}  // namespace onnx_memo
