// MemoMerge: puts the final states of the rows that ran between those of the store.
#include "kernels/memo_merge.h"

#include <algorithm>

#include "kernels/entries.h"
#include "simd/simd.h"

namespace onnx_memo {
namespace {

constexpr std::int64_t kTokens = 60;      // rows that a task writes; a multiple of the tile heights in simd/
constexpr std::int64_t kSpreadRows = 64;  // rows whose influence is spread at a time

}  // namespace

MergeJob::MergeJob(View<const float, 2> states, View<const float, 2> spread, const Ragged& ragged,
                   const MergeStore& store, View<float, 3> output)
    : states_(states), spread_(spread), ragged_(ragged), store_(store), output_(output) {
  CheckShapes();
  const std::int64_t padded_length = output_.dims[1];
  blocks_ = padded_length / kTokens + (padded_length % kTokens != 0);
  double work = static_cast<double>(output_.count());
  for (const Sequence& sequence : ragged_.sequences()) {
    if (sequence.entry == kMiss) continue;
    const std::int64_t square = Product(sequence.tokens, sequence.tokens);
    CheckOwned(sequence.entry, store_.offsets.data[sequence.entry], sequence.tokens, store_.final.dims[0], "final");
    CheckOwned(sequence.entry, store_.squares.data[sequence.entry], square, store_.influence.dims[0], "influence");
    work += static_cast<double>(sequence.count) * static_cast<double>(sequence.tokens * output_.dims[2]);
  }
  work_ = static_cast<std::int64_t>(std::min(work, 1e18));  // only compared with a threshold
}

void MergeJob::CheckShapes() const {
  if (states_.dims[0] != ragged_.rows()) {
    Refuse("'states' holds ", states_.dims[0], " rows and 'rows' ", ragged_.rows(), "; give one state a row");
  }
  if (spread_.dims != states_.dims) {
    Refuse("'spread' has shape [", spread_.dims[0], ", ", spread_.dims[1], "] and 'states' [", states_.dims[0], ", ",
           states_.dims[1], "]; give both the same");
  }
  if (store_.final.dims[1] != states_.dims[1]) {
    Refuse("'states' is ", states_.dims[1], " wide and 'final' ", store_.final.dims[1],
           "; the store was built for another model");
  }
  if (store_.offsets.dims[0] != store_.squares.dims[0]) {
    Refuse("'offsets' holds ", store_.offsets.dims[0], " entries and 'squares' ", store_.squares.dims[0],
           "; both must describe the same store");
  }
}

std::size_t MergeJob::tasks() const { return output_.dims[2] == 0 ? 0 : Size(Product(output_.dims[0], blocks_)); }

// output[end - begin, d] += J[t_r, begin .. end] * spread[r] of each row r of the sequence.
void MergeJob::AddSpread(const Sequence& sequence, std::int64_t begin, std::int64_t end, float* output) const noexcept {
  const simd::Level& simd = simd::Best();
  const std::int64_t width = output_.dims[2];
  const std::uint16_t* influence = store_.influence.data + store_.squares.data[sequence.entry];
  float row[kTokens];
  float factors[kTokens][kSpreadRows];
  for (std::int64_t first = 0; first < sequence.count; first += kSpreadRows) {
    const std::int64_t count = std::min(kSpreadRows, sequence.count - first);
    for (std::int64_t r = 0; r < count; ++r) {
      const std::int64_t token = ragged_.Token(sequence.first + first + r);
      simd.halves_to_floats(influence + token * sequence.tokens + begin, row, Size(end - begin));
      for (std::int64_t t = 0; t < end - begin; ++t) factors[t][r] = row[t];
    }
    simd.add_product(factors[0], Size(end - begin), Size(count), Size(kSpreadRows),
                     spread_.data + (sequence.first + first) * width, Size(width), Size(width), output, Size(width));
  }
}

void MergeJob::Run(std::size_t task) const noexcept {
  const std::int64_t b = static_cast<std::int64_t>(task) / blocks_;
  const std::int64_t padded_length = output_.dims[1];
  const std::int64_t width = output_.dims[2];
  const std::int64_t begin = static_cast<std::int64_t>(task) % blocks_ * kTokens;
  const std::int64_t end = std::min(begin + kTokens, padded_length);
  const Sequence& sequence = ragged_.sequences()[Size(b)];
  const std::int64_t middle = std::clamp(sequence.tokens, begin, end);

  float* const output = output_.data + (b * padded_length + begin) * width;
  std::fill(output + (middle - begin) * width, output + (end - begin) * width, 0.0F);
  if (middle == begin) return;
  if (sequence.entry != kMiss) {
    const float* final = store_.final.data + (store_.offsets.data[sequence.entry] + begin) * width;
    std::copy_n(final, (middle - begin) * width, output);
    AddSpread(sequence, begin, middle, output);
  }
  const std::int64_t last = ragged_.FirstRow(b, middle);
  for (std::int64_t r = ragged_.FirstRow(b, begin); r < last; ++r) {
    std::copy_n(states_.data + r * width, width, output + (ragged_.Token(r) - begin) * width);
  }
}

void MemoMerge::Compute(const Context& context) const {
  const auto states = context.Input<float, 2>(Input::kStates);
  const auto spread = context.Input<float, 2>(Input::kSpread);
  const auto rows = context.Input<std::int64_t, 1>(Input::kRows);
  const auto entry = context.Input<std::int64_t, 1>(Input::kEntry);
  const auto length = context.Input<std::int64_t, 1>(Input::kLength);
  const auto padded_length = context.Single<std::int64_t>(Input::kPaddedLength);
  MergeStore store;
  store.final = context.Input<float, 2>(Input::kFinal);
  store.influence = context.Input<std::uint16_t, 1>(Input::kInfluence);
  store.offsets = context.Input<std::int64_t, 1>(Input::kOffsets);
  store.squares = context.Input<std::int64_t, 1>(Input::kSquares);

  const Ragged ragged(rows, entry, length, padded_length, store.offsets.dims[0]);
  const auto output = context.Output<float, 3>(Output::kOutput, {entry.dims[0], padded_length, states.dims[1]});
  const MergeJob job(states, spread, ragged, store, output);
  context.ForEach(job.tasks(), job.work(), [&](std::size_t task) { job.Run(task); });
}

}  // namespace onnx_memo
