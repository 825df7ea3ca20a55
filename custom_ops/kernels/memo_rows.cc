// MemoRows: chooses the rows of a request that have to run when all others come from the store.
#include "kernels/memo_rows.h"

#include <algorithm>
#include <numeric>

#include "kernels/change.h"
#include "kernels/entries.h"
#include "kernels/ragged.h"
#include "simd/prefetch.h"
#include "simd/simd.h"

namespace onnx_memo {
namespace {

constexpr std::int64_t kAhead = 4;  // rows that are fetched before they are compared
constexpr std::int64_t kHalfBytes = sizeof(std::uint16_t);

}  // namespace

RowsJob::RowsJob(View<const float, 3> states, View<const std::int64_t, 1> entry, View<const std::int64_t, 1> length,
                 const RowsStore& store, const RowsLimits& limits)
    : states_(states), entry_(entry), length_(length), store_(store), limits_(limits) {
  CheckShapes();
  for (std::int64_t b = 0; b < entry_.dims[0]; ++b) CheckEntry(b);
  if (!(limits_.bound >= 0)) return;

  std::int64_t tokens = 0;  // at most B * L
  for (std::int64_t b = 0; b < entry_.dims[0]; ++b) {
    // What the original makes of a sequence that is all padding, only the original knows.
    if (entry_.data[b] == kMiss || length_.data[b] < 1) continue;
    sequences_.push_back({b, tokens, static_cast<double>(limits_.limit) * static_cast<double>(length_.data[b])});
    tokens += length_.data[b];
  }
  work_ = Product(tokens, states_.dims[2]);
  runs_.resize(Size(tokens));
  changes_.resize(Size(tokens));
  predicted_.resize(Size(tokens));
}

void RowsJob::CheckShapes() const {
  CheckBatch(entry_, length_);
  if (states_.dims[0] != entry_.dims[0]) {
    Refuse("'states' holds ", states_.dims[0], " sequences and 'entry' ", entry_.dims[0],
           "; give one entry a sequence");
  }
  if (states_.dims[2] != store_.stored.dims[1]) {
    Refuse("'states' is ", states_.dims[2], " wide and 'stored' ", store_.stored.dims[1],
           "; the store was built for another model");
  }
  if (store_.offsets.dims[0] != store_.squares.dims[0]) {
    Refuse("'offsets' holds ", store_.offsets.dims[0], " entries and 'squares' ", store_.squares.dims[0],
           "; both must describe the same store");
  }
}

void RowsJob::CheckEntry(std::int64_t b) const {
  const std::int64_t e = entry_.data[b];
  const std::int64_t tokens = length_.data[b];
  CheckExists(e, store_.offsets.dims[0]);
  CheckLength(b, tokens, states_.dims[1]);
  if (e == kMiss || tokens < 0) return;
  CheckOwned(e, store_.offsets.data[e], tokens, store_.stored.dims[0], "stored");
  CheckOwned(e, store_.squares.data[e], Product(tokens, tokens), store_.influence.dims[0], "influence");
}

void RowsJob::Run(std::size_t task) noexcept {
  Sequence* const sequence = &sequences_[task];
  if (!Measure(sequence)) return;
  Predict(*sequence);
  sequence->hit = Choose(sequence);
}

// Finds the changed rows. Gives up as soon as they are too many.
bool RowsJob::Measure(Sequence* sequence) noexcept {
  const std::int64_t width = states_.dims[2];
  const std::int64_t tokens = length_.data[sequence->batch];
  const float* states = states_.data + sequence->batch * states_.dims[1] * width;
  const std::uint16_t* stored = store_.stored.data + store_.offsets.data[entry_.data[sequence->batch]] * width;
  for (std::int64_t t = 0; t < tokens; ++t) {
    if (t + kAhead < tokens) {
      Prefetch(reinterpret_cast<const unsigned char*>(stored + (t + kAhead) * width), width * kHalfBytes);
    }
    const float change = Change(states + t * width, stored + t * width, width);
    if (change <= limits_.epsilon) continue;
    changes_[Size(sequence->first + t)] = AtMost(change);
    runs_[Size(sequence->first + t)] = 1;
    if (!(static_cast<double>(++sequence->running) <= sequence->most)) return false;
    Prefetch(reinterpret_cast<const unsigned char*>(Influence(sequence->batch, t)), tokens * kHalfBytes);
  }
  return true;
}

// What all changes do to each row.
void RowsJob::Predict(const Sequence& sequence) noexcept {
  const simd::Level& simd = simd::Best();
  const std::int64_t tokens = length_.data[sequence.batch];
  for (std::int64_t j = 0; j < tokens; ++j) {
    const float change = changes_[Size(sequence.first + j)];
    if (change == 0.0F) continue;
    simd.add_scaled_halves(change, Influence(sequence.batch, j), predicted_.data() + sequence.first, Size(tokens));
  }
}

// Lets rows run that did not change, but will. Says whether all that run are few enough.
bool RowsJob::Choose(Sequence* sequence) noexcept {
  const std::int64_t end = sequence->first + length_.data[sequence->batch];
  for (std::int64_t at = sequence->first; at < end; ++at) {
    if (runs_[Size(at)] != 0 || predicted_[Size(at)] <= limits_.bound) continue;
    runs_[Size(at)] = 1;
    ++sequence->running;
  }
  return static_cast<double>(sequence->running) <= sequence->most;
}

bool RowsJob::all_hit() const {
  const auto hits = std::count_if(sequences_.begin(), sequences_.end(), [](const Sequence& each) { return each.hit; });
  return hits > 0 && hits == entry_.dims[0];
}

std::int64_t RowsJob::count() const {
  return std::accumulate(
      sequences_.begin(), sequences_.end(), std::int64_t{0},
      [](std::int64_t sum, const Sequence& sequence) { return sum + (sequence.hit ? sequence.running : 0); });
}

void RowsJob::Write(std::int64_t* rows, std::int64_t* stored_rows, bool* hit, View<float, 2> change,
                    View<float, 2> predicted) const {
  std::fill_n(hit, entry_.dims[0], false);
  std::fill_n(change.data, change.count(), 0.0F);
  std::fill_n(predicted.data, predicted.count(), 0.0F);
  const std::int64_t padded_length = states_.dims[1];
  for (const Sequence& sequence : sequences_) {
    if (!sequence.hit) continue;
    const std::int64_t b = sequence.batch;
    const std::int64_t tokens = length_.data[b];
    hit[b] = true;
    for (std::int64_t t = 0; t < tokens; ++t) {
      if (runs_[Size(sequence.first + t)] == 0) continue;
      *rows++ = b * padded_length + t;
      *stored_rows++ = store_.offsets.data[entry_.data[b]] + t;
    }
    std::copy_n(changes_.data() + sequence.first, tokens, change.data + b * padded_length);
    std::copy_n(predicted_.data() + sequence.first, tokens, predicted.data + b * padded_length);
  }
}

void MemoRows::Compute(const Context& context) const {
  const auto states = context.Input<float, 3>(Input::kStates);
  const auto entry = context.Input<std::int64_t, 1>(Input::kEntry);
  const auto length = context.Input<std::int64_t, 1>(Input::kLength);
  RowsStore store;
  store.stored = context.Input<std::uint16_t, 2>(Input::kStored);
  store.influence = context.Input<std::uint16_t, 1>(Input::kInfluence);
  store.offsets = context.Input<std::int64_t, 1>(Input::kOffsets);
  store.squares = context.Input<std::int64_t, 1>(Input::kSquares);
  RowsLimits limits{};
  limits.epsilon = context.Single<float>(Input::kEpsilon);
  limits.bound = context.Single<float>(Input::kBound);
  limits.limit = context.Single<float>(Input::kLimit);

  RowsJob job(states, entry, length, store, limits);
  context.ForEach(job.tasks(), job.work(), [&](std::size_t task) { job.Run(task); });
  const auto rows = context.Output<std::int64_t, 1>(Output::kRows, {job.count()});
  const auto stored_rows = context.Output<std::int64_t, 1>(Output::kStoredRows, {job.count()});
  const auto hit = context.Output<bool, 1>(Output::kHit, {states.dims[0]});
  *context.Output<bool, 0>(Output::kAllHit, {}).data = job.all_hit();
  const auto change = context.Output<float, 2>(Output::kChange, {states.dims[0], states.dims[1]});
  const auto predicted = context.Output<float, 2>(Output::kPredicted, {states.dims[0], states.dims[1]});
  job.Write(rows.data, stored_rows.data, hit.data, change, predicted);
}

}  // namespace onnx_memo
