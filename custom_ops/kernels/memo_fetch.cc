// MemoFetch: copies the stored rows of each entry into a padded batch.
#include "kernels/memo_fetch.h"

#include <algorithm>

#include "simd/simd.h"

namespace onnx_memo {
namespace {

constexpr std::int64_t kShare = 1 << 16;  // elements a task writes

}  // namespace

FetchJob::FetchJob(View<const std::int64_t, 1> entry, View<const std::uint16_t, 2> payload, const Entries& entries,
                   View<float, 3> output)
    : entry_(entry), payload_(payload), entries_(entries), output_(output) {
  entries_.CheckShapes();
  for (std::int64_t b = 0; b < entry_.dims[0]; ++b) {
    entries_.CheckReadable(entry_.data[b], output_.dims[1], /*square=*/false);
  }
  row_elements_ = Product(output_.dims[1], output_.dims[2]);
  shares_of_row_ = row_elements_ / kShare + (row_elements_ % kShare != 0);
}

std::size_t FetchJob::tasks() const { return Size(Product(entry_.dims[0], shares_of_row_)); }

void FetchJob::Run(std::size_t task) const noexcept {
  const std::int64_t row = static_cast<std::int64_t>(task) / shares_of_row_;
  const std::int64_t begin = static_cast<std::int64_t>(task) % shares_of_row_ * kShare;
  const std::int64_t end = std::min(begin + kShare, row_elements_);
  const std::int64_t width = output_.dims[2];
  const std::int64_t entry = entry_.data[row];
  const std::int64_t stored = entry == kMiss ? 0 : entries_.length(entry) * width;
  const std::int64_t middle = std::clamp(stored, begin, end);

  float* output = output_.data + row * row_elements_;
  if (middle > begin) {
    const std::uint16_t* halves = payload_.data + entries_.offset(entry) * width;
    simd::Best().halves_to_floats(halves + begin, output + begin, Size(middle - begin));
  }
  std::fill(output + middle, output + end, 0.0F);
}

void MemoFetch::Compute(const Context& context) const {
  const auto entry = context.Input<std::int64_t, 1>(Input::kEntry);
  const auto payload = context.Input<std::uint16_t, 2>(Input::kPayload);
  const auto offsets = context.Input<std::int64_t, 1>(Input::kOffsets);
  const auto lengths = context.Input<std::int64_t, 1>(Input::kLengths);
  const auto padded_length = context.Single<std::int64_t>(Input::kPaddedLength);
  if (padded_length < 0) Refuse("'padded_length' is ", padded_length, "; give the length of the padded request");

  const auto output = context.Output<float, 3>(Output::kOutput, {entry.dims[0], padded_length, payload.dims[1]});
  const FetchJob job(entry, payload, {offsets, lengths, payload.dims[0]}, output);
  context.ForEach(job.tasks(), job.work(), [&](std::size_t task) { job.Run(task); });
}

}  // namespace onnx_memo
