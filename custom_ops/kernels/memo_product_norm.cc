// MemoProductNorm: the product in 8 bits, added to a residual and normalized.
#include "kernels/memo_product_norm.h"

#include <string>
#include <utility>

namespace onnx_memo {
namespace {

std::string Words(const std::vector<std::int64_t>& dims) {
  std::string words = "[";
  for (std::size_t i = 0; i < dims.size(); ++i) words += (i > 0 ? ", " : "") + std::to_string(dims[i]);
  return words + "]";
}

}  // namespace

ProductNormJob::ProductNormJob(const ProductInputs& inputs, const NormInputs& norm, View<float, 2> sum,
                               View<float, 2> y, const simd::IntegerLevel& level)
    : product_(inputs.x, inputs.weights, sum, level),
      norm_(norm),
      sum_(sum),
      y_(y),
      level_(level),
      done_(Size(product_.blocks())) {
  if (norm.residual_dims != inputs.dims) {
    Refuse("'residual' has shape ", Words(norm.residual_dims), "; the product has ", Words(inputs.dims),
           ", give the same");
  }
  if (norm.gamma.dims[0] != sum.dims[1] || norm.beta.dims[0] != sum.dims[1]) {
    Refuse("'gamma' holds ", norm.gamma.dims[0], " numbers and 'beta' ", norm.beta.dims[0], "; the product is ",
           sum.dims[1], " wide, give as many");
  }
}

void ProductNormJob::Run(std::size_t task) noexcept {
  product_.Run(task);
  const std::int64_t block = product_.block_of(task);
  if (done_[Size(block)].fetch_add(1, std::memory_order_acq_rel) + 1 == product_.panels()) Normalize(block);
}

void ProductNormJob::Normalize(std::int64_t block) const noexcept {
  const std::int64_t columns = sum_.dims[1];
  for (std::int64_t r = product_.begin_of(block); r < product_.end_of(block); ++r) {
    const std::int64_t at = r * columns;
    level_.normalize({norm_.residual.data + at, norm_.gamma.data, norm_.beta.data, norm_.epsilon}, Size(columns),
                     sum_.data + at, y_.data + at);
  }
}

void MemoProductNorm::Compute(const Context& context) const {
  const ProductInputs inputs = ReadProduct(context);
  std::vector<std::int64_t> dims;
  NormInputs norm;
  norm.residual = context.Rows<float>(Input::kResidual, &dims);
  norm.gamma = context.Input<float, 1>(Input::kGamma);
  norm.beta = context.Input<float, 1>(Input::kBeta);
  norm.epsilon = context.Single<float>(Input::kEpsilon);
  norm.residual_dims = std::move(dims);

  const std::array<std::int64_t, 2> shape = {inputs.x.dims[0], inputs.dims.back()};
  const View<float, 2> y = {context.OutputOf<float>(Output::kY, inputs.dims), shape};
  const View<float, 2> sum = {context.OutputOf<float>(Output::kSum, inputs.dims), shape};
  ProductNormJob job(inputs, norm, sum, y, simd::BestIntegers());
  context.ForEach(job.rounding_tasks(), job.work(), [&](std::size_t task) { job.Round(task); });
  context.ForEach(job.tasks(), job.work(), [&](std::size_t task) { job.Run(task); });
}

}  // namespace onnx_memo
