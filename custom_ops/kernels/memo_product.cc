// MemoProduct: rows times a constant matrix, in 8 bits, each row in 255 steps of its own range. And the same
// with an activation.
#include "kernels/memo_product.h"

#include <algorithm>
#include <utility>

namespace onnx_memo {
namespace {

constexpr std::int64_t kColumns = simd::kPanelColumns;
constexpr std::int64_t kGroup = simd::kGroup;
constexpr std::int64_t kTileRows = simd::kMostTileRows;
constexpr std::int64_t kBlock = 60;         // rows of a task; a whole number of tiles
constexpr std::int64_t kMostInner = 65536;  // 255 * 127 times that is below 2^31
constexpr std::int64_t kMostChannels = 64;

constexpr std::int8_t kNoWeights[kColumns * kGroup] = {};  // where rows have no numbers

constexpr std::int64_t Blocks(std::int64_t count, std::int64_t size) { return count / size + (count % size != 0); }

}  // namespace

ProductJob::ProductJob(View<const float, 2> x, const ProductWeights& weights, View<float, 2> y,
                       const simd::IntegerLevel& level, simd::Activation activation)
    : x_(x), weights_(weights), y_(y), level_(level), activation_(activation) {
  CheckShapes();
  const std::int64_t inner = x_.dims[1];
  const std::int64_t rows = y_.count() == 0 ? 0 : x_.dims[0];  // a tensor without elements may have any number of rows
  blocks_ = Blocks(rows, kBlock);
  work_ = Product(Product(rows, inner / kGroup), y_.dims[1]);  // four multiplications are one step
  bytes_.reset(new std::uint8_t[Size(Product(rows, inner))]);
  rounding_.resize(Size(rows));
  apart_.resize(Size(rows * weights_.channels.dims[0]));
  if (weights_.channels.dims[0] > 0) rest_.reset(new float[Size(Product(blocks_, inner))]);
}

void ProductJob::CheckShapes() const {
  const std::int64_t inner = x_.dims[1];
  const std::int64_t columns = weights_.scales.dims[0];
  const std::int64_t channels = weights_.channels.dims[0];
  if (inner > kMostInner || inner % kGroup != 0) {
    Refuse("'x' is ", inner, " wide; give a multiple of ", kGroup, ", at most ", kMostInner);
  }
  const std::array<std::int64_t, 4> wanted = {Blocks(columns, kColumns), inner / kGroup, kColumns, kGroup};
  if (weights_.packed.dims != wanted) {
    Refuse("'packed' has shape [", weights_.packed.dims[0], ", ", weights_.packed.dims[1], ", ",
           weights_.packed.dims[2], ", ", weights_.packed.dims[3], "]; for 'x' ", inner, " wide and ", columns,
           " 'scales' give [", wanted[0], ", ", wanted[1], ", ", wanted[2], ", ", wanted[3], "]");
  }
  if (weights_.sums.dims[0] != columns || weights_.bias.dims[0] != columns || weights_.apart.dims[1] != columns) {
    Refuse("'scales' holds ", columns, " columns, 'sums' ", weights_.sums.dims[0], ", 'bias' ", weights_.bias.dims[0],
           " and 'apart' ", weights_.apart.dims[1], "; give all the same");
  }
  if (weights_.apart.dims[0] != channels || channels > kMostChannels) {
    Refuse("'channels' holds ", channels, " and 'apart' ", weights_.apart.dims[0], " channels; give both the same, ",
           kMostChannels, " at most");
  }
  std::int64_t before = -1;
  for (std::int64_t c = 0; c < channels; ++c) {
    const std::int64_t channel = weights_.channels.data[c];
    if (channel < 0 || channel >= inner) Refuse("channel ", channel, " does not exist: 'x' is ", inner, " wide");
    if (channel <= before) Refuse("channel ", channel, " comes after ", before, "; 'channels' must rise");
    before = channel;
  }
}

std::int64_t ProductJob::begin_of(std::int64_t block) const { return block * kBlock; }

std::int64_t ProductJob::end_of(std::int64_t block) const { return std::min(begin_of(block + 1), x_.dims[0]); }

void ProductJob::Round(std::size_t task) noexcept {
  const std::int64_t begin = begin_of(static_cast<std::int64_t>(task));
  const std::int64_t end = end_of(static_cast<std::int64_t>(task));
  const std::int64_t inner = x_.dims[1];
  const std::int64_t channels = weights_.channels.dims[0];
  for (std::int64_t r = begin; r < end; ++r) {
    const float* row = x_.data + r * inner;
    if (channels > 0) {  // a copy with zeros in their place takes less time than rounding what is between them
      float* const rest = rest_.get() + static_cast<std::int64_t>(task) * inner;
      std::copy_n(row, inner, rest);
      for (std::int64_t c = 0; c < channels; ++c) {
        const std::int64_t channel = weights_.channels.data[c];
        apart_[Size(r * channels + c)] = row[channel];
        rest[channel] = 0.0F;
      }
      row = rest;
    }
    rounding_[Size(r)] = level_.round_row(row, Size(inner), bytes_.get() + r * inner);
  }
}

void ProductJob::Run(std::size_t task) const noexcept {
  const std::int64_t number = static_cast<std::int64_t>(task) % panels();
  const std::int64_t begin = begin_of(block_of(task));
  const std::int64_t end = end_of(block_of(task));
  const std::int64_t inner = x_.dims[1];
  const std::int64_t columns = y_.dims[1];
  const std::int64_t channels = weights_.channels.dims[0];
  const std::int64_t first = number * kColumns;
  // A pointer into a tensor without elements must not be moved.
  const std::int8_t* packed = inner == 0 ? kNoWeights : weights_.packed.data + number * kColumns * inner;
  // The next panel, shared out among this one's tiles: of the last panel there is none.
  const std::size_t step = number + 1 < panels() ? Size(kColumns * kGroup / Blocks(end - begin, kTileRows)) : 0;
  simd::Ahead ahead = {step == 0 ? packed : packed + kColumns * inner, step};
  const float* apart = channels == 0 ? nullptr : weights_.apart.data + first;
  const simd::Panel panel = {packed,
                             Size(inner / kGroup),
                             weights_.sums.data + first,
                             weights_.scales.data + first,
                             weights_.bias.data + first,
                             apart,
                             Size(channels),
                             Size(columns),
                             activation_};
  for (std::int64_t r = begin; r < end; r += kTileRows) {
    const simd::RoundedRows rows = {Size(std::min(kTileRows, end - r)), bytes_.get() + r * inner, rounding_.data() + r,
                                    apart_.data() + r * channels};
    float* const output = y_.data + r * columns + first;
    if (columns - first >= kColumns) {
      level_.multiply(rows, panel, ahead, output, Size(columns));
    } else {
      RunPartial(rows, panel, ahead, columns - first, output);
    }
    ahead.begin += panel.groups * step;
  }
}

// The last columns, by copies that are as long as a panel.
void ProductJob::RunPartial(const simd::RoundedRows& rows, const simd::Panel& panel, const simd::Ahead& ahead,
                            std::int64_t columns, float* output) const noexcept {
  std::int32_t sums[kColumns] = {};
  float scales[kColumns] = {}, bias[kColumns] = {}, apart[kMostChannels * kColumns] = {}, tile[kTileRows * kColumns];
  std::copy_n(panel.sums, columns, sums);
  std::copy_n(panel.scales, columns, scales);
  std::copy_n(panel.bias, columns, bias);
  for (std::size_t c = 0; c < panel.apart_channels; ++c) {
    std::copy_n(panel.apart + c * panel.apart_stride, columns, apart + c * Size(kColumns));
  }
  simd::Panel whole = panel;
  whole.sums = sums;
  whole.scales = scales;
  whole.bias = bias;
  whole.apart = apart;
  whole.apart_stride = Size(kColumns);
  level_.multiply(rows, whole, ahead, tile, Size(kColumns));
  for (std::size_t r = 0; r < rows.count; ++r) {
    std::copy_n(tile + r * Size(kColumns), columns, output + static_cast<std::int64_t>(r) * y_.dims[1]);
  }
}

ProductInputs ReadProduct(const Context& context) {
  using Input = ActivatedProduct::Input;
  std::vector<std::int64_t> dims;
  const auto x = context.Rows<float>(Input::kX, &dims);
  ProductWeights weights;
  weights.packed = context.Input<std::int8_t, 4>(Input::kPacked);
  weights.sums = context.Input<std::int32_t, 1>(Input::kSums);
  weights.scales = context.Input<float, 1>(Input::kScales);
  weights.bias = context.Input<float, 1>(Input::kBias);
  weights.channels = context.Input<std::int64_t, 1>(Input::kChannels);
  weights.apart = context.Input<float, 2>(Input::kApart);
  dims.back() = weights.scales.dims[0];
  return {std::move(dims), x, weights};
}

void ActivatedProduct::Compute(const Context& context, simd::Activation activation) {
  const ProductInputs inputs = ReadProduct(context);
  const View<float, 2> y = {context.OutputOf<float>(Output::kY, inputs.dims), {inputs.x.dims[0], inputs.dims.back()}};
  ProductJob job(inputs.x, inputs.weights, y, simd::BestIntegers(), activation);
  context.ForEach(job.rounding_tasks(), job.work(), [&](std::size_t task) { job.Round(task); });
  context.ForEach(job.tasks(), job.work(), [&](std::size_t task) { job.Run(task); });
}

}  // namespace onnx_memo
