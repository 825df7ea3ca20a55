// MemoProduct: rows times a constant matrix, in 8 bits, each row in 255 steps of its own range. And the same
// with an activation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "ort/context.h"
#include "ort/view.h"
#include "simd/integers.h"

namespace onnx_memo {

// The matrix. Some channels (rows of it) stay apart in floats; their weights in 8 bits do not count.
struct ProductWeights {
  View<const std::int8_t, 4> packed;  // [ceil(M / 48), K / 4, 48, 4], zeros beyond M
  View<const std::int32_t, 1> sums;   // of each column's packed weights
  View<const float, 1> scales;        // of each column
  View<const float, 1> bias;          // of each column
  View<const std::int64_t, 1> channels;
  View<const float, 2> apart;  // [channels, M]
};

// y[r] = the activation of: (x[r], rounded, without the channels apart) times the matrix, plus those channels' product,
// plus the bias.
class ProductJob {
 public:
  // `x` is [R, K], `y` is [R, M]. Throws InvalidArgument when shapes do not fit or a channel does not exist.
  // `level` must outlive the job.
  ProductJob(View<const float, 2> x, const ProductWeights& weights, View<float, 2> y, const simd::IntegerLevel& level,
             simd::Activation activation = simd::Activation::kNone);

  std::int64_t work() const { return work_; }

  // First all rows are rounded, then they are multiplied: two kinds of tasks, of each of which several may run at the
  // same time.
  std::size_t rounding_tasks() const { return Size(blocks_); }
  void Round(std::size_t task) noexcept;
  std::size_t tasks() const { return Size(blocks_ * panels()); }
  void Run(std::size_t task) const noexcept;

  // Each task of the second kind is that of one panel and of one block of rows.
  std::int64_t panels() const { return weights_.packed.dims[0]; }
  std::int64_t blocks() const { return blocks_; }
  std::int64_t block_of(std::size_t task) const { return static_cast<std::int64_t>(task) / panels(); }
  std::int64_t begin_of(std::int64_t block) const;
  std::int64_t end_of(std::int64_t block) const;

 private:
  void CheckShapes() const;
  void RunPartial(const simd::RoundedRows& rows, const simd::Panel& panel, const simd::Ahead& ahead,
                  std::int64_t columns, float* output) const noexcept;

  View<const float, 2> x_;
  ProductWeights weights_;
  View<float, 2> y_;
  const simd::IntegerLevel& level_;
  simd::Activation activation_;
  std::int64_t blocks_;  // of rows that a task takes
  std::int64_t work_;
  std::unique_ptr<std::uint8_t[]> bytes_;  // [R, K], rounded
  std::vector<simd::Rounding> rounding_;   // [R]
  std::vector<float> apart_;               // [R, channels]
  std::unique_ptr<float[]> rest_;          // [blocks, K]: a row of each without the channels apart
};

// What the first inputs of each of these operators are.
struct ProductInputs {
  std::vector<std::int64_t> dims;  // of the product
  View<const float, 2> x;
  ProductWeights weights;
};
ProductInputs ReadProduct(const Context& context);

// The tables of the product without and with an activation.
class ActivatedProduct {
 public:
  enum Input : std::size_t { kX, kPacked, kSums, kScales, kBias, kChannels, kApart };
  static constexpr TensorSpec kInputs[] = {
      {"x", ort::ElementType::kFloat},      {"packed", ort::ElementType::kInt8}, {"sums", ort::ElementType::kInt32},
      {"scales", ort::ElementType::kFloat}, {"bias", ort::ElementType::kFloat},  {"channels", ort::ElementType::kInt64},
      {"apart", ort::ElementType::kFloat},
  };
  enum Output : std::size_t { kY };
  static constexpr TensorSpec kOutputs[] = {
      {"y", ort::ElementType::kFloat},
  };

 protected:
  static void Compute(const Context& context, simd::Activation activation);
};

class MemoProduct : public ActivatedProduct {
 public:
  static constexpr const char* kName = "MemoProduct";
  void Compute(const Context& context) const { ActivatedProduct::Compute(context, simd::Activation::kNone); }
};

class MemoProductGelu : public ActivatedProduct {
 public:
  static constexpr const char* kName = "MemoProductGelu";
  void Compute(const Context& context) const { ActivatedProduct::Compute(context, simd::Activation::kGelu); }
};

class MemoProductGeluTanh : public ActivatedProduct {
 public:
  static constexpr const char* kName = "MemoProductGeluTanh";
  void Compute(const Context& context) const { ActivatedProduct::Compute(context, simd::Activation::kGeluTanh); }
};

class MemoProductRelu : public ActivatedProduct {
 public:
  static constexpr const char* kName = "MemoProductRelu";
  void Compute(const Context& context) const { ActivatedProduct::Compute(context, simd::Activation::kRelu); }
};

class MemoProductSilu : public ActivatedProduct {
 public:
  static constexpr const char* kName = "MemoProductSilu";
  void Compute(const Context& context) const { ActivatedProduct::Compute(context, simd::Activation::kSilu); }
};

}  // namespace onnx_memo
