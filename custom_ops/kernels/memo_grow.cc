// MemoGrow: lets more rows run from some depth of the encoder on.
#include "kernels/memo_grow.h"

#include <algorithm>

#include "kernels/change.h"
#include "kernels/entries.h"
#include "simd/simd.h"

namespace onnx_memo {
namespace {

// Work is only compared with a threshold.
std::int64_t Work(double multiplications) { return static_cast<std::int64_t>(std::min(multiplications, 1e18)); }

}  // namespace

GrowJob::GrowJob(const GrowInputs& inputs, const Ragged& ragged, const GrowStore& store, View<float, 2> predicted)
    : inputs_(inputs), ragged_(ragged), store_(store), predicted_(predicted) {
  CheckShapes();
  double work = 0;
  for (const Sequence& sequence : ragged_.sequences()) {
    if (sequence.entry == kMiss) continue;
    CheckEntry(sequence);
    work += static_cast<double>(sequence.count) * static_cast<double>(inputs_.states.dims[1]) +
            static_cast<double>(sequence.tokens) * static_cast<double>(sequence.tokens);
  }
  work_ = Work(work);
  parts_.resize(ragged_.sequences().size());
  weights_.resize(Size(predicted_.count()));
}

void GrowJob::CheckShapes() const {
  const std::int64_t width = inputs_.states.dims[1];
  const auto batch = static_cast<std::int64_t>(ragged_.sequences().size());
  if (inputs_.states.dims[0] != ragged_.rows()) {
    Refuse("'states' holds ", inputs_.states.dims[0], " rows and 'rows' ", ragged_.rows(), "; give one state a row");
  }
  if (inputs_.change.dims[0] != batch) {
    Refuse("'change' holds ", inputs_.change.dims[0], " sequences and 'entry' ", batch, "; give one entry a sequence");
  }
  if (inputs_.predicted.dims != inputs_.change.dims) {
    Refuse("'predicted' has shape [", inputs_.predicted.dims[0], ", ", inputs_.predicted.dims[1], "] and 'change' [",
           inputs_.change.dims[0], ", ", inputs_.change.dims[1], "]; give both the same");
  }
  if (store_.stored.dims[1] != width) {
    Refuse("'states' is ", width, " wide and 'stored' ", store_.stored.dims[1],
           "; the store was built for another model");
  }
  if (inputs_.correction.dims[0] != width || inputs_.correction.dims[1] != width) {
    Refuse("'correction' has shape [", inputs_.correction.dims[0], ", ", inputs_.correction.dims[1],
           "] and 'states' is ", width, " wide; give a square matrix of that width");
  }
  if (store_.offsets.dims[0] != store_.squares.dims[0]) {
    Refuse("'offsets' holds ", store_.offsets.dims[0], " entries and 'squares' ", store_.squares.dims[0],
           "; both must describe the same store");
  }
}

void GrowJob::CheckEntry(const Sequence& sequence) const {
  const std::int64_t e = sequence.entry;
  const std::int64_t square = Product(sequence.tokens, sequence.tokens);
  CheckOwned(e, store_.offsets.data[e], sequence.tokens, store_.stored.dims[0], "stored");
  CheckOwned(e, store_.squares.data[e], square, store_.influence.dims[0], "influence");
  CheckOwned(e, store_.squares.data[e], square, store_.rollout.dims[0], "rollout");
}

void GrowJob::Run(std::size_t task) {
  const Sequence& sequence = ragged_.sequences()[task];
  const std::size_t place = task * Size(ragged_.padded_length());
  float* const predicted = predicted_.data + place;
  std::fill_n(predicted, ragged_.padded_length(), 0.0F);
  if (sequence.entry == kMiss) return;

  float* const weights = weights_.data() + place;
  std::copy_n(inputs_.predicted.data + place, sequence.tokens, weights);
  Weigh(sequence, weights);
  const std::uint16_t* influence = store_.influence.data + store_.squares.data[sequence.entry];
  for (std::int64_t j = 0; j < sequence.tokens; ++j, influence += sequence.tokens) {
    if (weights[j] == 0.0F) continue;
    simd::Best().add_scaled_halves(weights[j], influence, predicted, Size(sequence.tokens));
  }
  parts_[task].joining = Joining(sequence, predicted);
}

// What is known of the rows that run takes the place of what was predicted.
void GrowJob::Weigh(const Sequence& sequence, float* weights) const noexcept {
  const std::int64_t width = inputs_.states.dims[1];
  for (std::int64_t row = sequence.first; row < sequence.first + sequence.count; ++row) {
    const std::int64_t token = ragged_.Token(row);
    weights[token] = AtMost(Change(inputs_.states.data + row * width, Stored(sequence, token), width));
  }
}

std::vector<std::int64_t> GrowJob::Joining(const Sequence& sequence, const float* predicted) const {
  std::vector<std::int64_t> joining;
  std::int64_t row = sequence.first;
  const std::int64_t end = row + sequence.count;
  for (std::int64_t t = 0; t < sequence.tokens; ++t) {
    const bool runs = row < end && ragged_.Token(row) == t;
    if (runs) ++row;
    if (!runs && !(predicted[t] <= inputs_.bound)) joining.push_back(t);
  }
  return joining;
}

std::int64_t GrowJob::Pack() {
  const auto width = static_cast<double>(inputs_.states.dims[1]);
  std::int64_t rows = 0;
  double work = 0;
  for (std::size_t b = 0; b < parts_.size(); ++b) {
    const std::int64_t before = ragged_.sequences()[b].count;
    const auto joining = static_cast<std::int64_t>(parts_[b].joining.size());
    parts_[b].first = rows;
    rows += before + joining;
    work += static_cast<double>(before + joining) * width;
    if (joining > 0) work += static_cast<double>(before) * width * (width + static_cast<double>(joining));
  }
  write_work_ = Work(work);
  return rows;
}

void GrowJob::Write(std::size_t task, const GrownRows& grown) const {
  const Sequence& sequence = ragged_.sequences()[task];
  const Part& part = parts_[task];
  const auto b = static_cast<std::int64_t>(task);
  const std::int64_t width = inputs_.states.dims[1];
  const std::int64_t offset = sequence.entry == kMiss ? 0 : store_.offsets.data[sequence.entry];
  const std::vector<float> starts = Starts(task);
  const float* start = starts.data();
  std::int64_t row = sequence.first;
  auto joining = part.joining.begin();
  const std::int64_t end = part.first + sequence.count + static_cast<std::int64_t>(part.joining.size());
  for (std::int64_t to = part.first; to < end; ++to) {
    const bool old =
        joining == part.joining.end() || (row < sequence.first + sequence.count && ragged_.Token(row) < *joining);
    const std::int64_t token = old ? ragged_.Token(row) : *joining++;
    const float* from = old ? inputs_.states.data + row++ * width : start;
    if (!old) start += width;
    std::copy_n(from, width, grown.states + to * width);
    grown.rows[to] = b * ragged_.padded_length() + token;
    grown.stored_rows[to] = sequence.entry == kMiss ? 0 : offset + token;
  }
}

// The states that the joining rows start with: [J, d].
std::vector<float> GrowJob::Starts(std::size_t task) const {
  const std::vector<std::int64_t>& joining = parts_[task].joining;
  if (joining.empty()) return {};
  const simd::Level& simd = simd::Best();
  const Sequence& sequence = ragged_.sequences()[task];
  const std::size_t width = Size(inputs_.states.dims[1]);
  const std::vector<std::int64_t> changed = ChangedRows(task);
  const std::uint16_t* rollout = store_.rollout.data + store_.squares.data[sequence.entry];
  std::vector<float> starts(joining.size() * width);
  std::vector<float> reach(joining.size() * changed.size());  // of each changed row on each that joins
  float* factor = reach.data();
  for (std::size_t i = 0; i < joining.size(); ++i) {
    simd.halves_to_floats(Stored(sequence, joining[i]), starts.data() + i * width, width);
    for (const std::int64_t row : changed) {
      simd.halves_to_floats(rollout + ragged_.Token(row) * sequence.tokens + joining[i], factor++, 1);
    }
  }
  simd.add_product(reach.data(), joining.size(), changed.size(), changed.size(), PassedOn(sequence, changed).data(),
                   width, width, starts.data(), width);
  return starts;
}

// Those of the rows that run whose tokens changed at the encoder's input.
std::vector<std::int64_t> GrowJob::ChangedRows(std::size_t task) const {
  const Sequence& sequence = ragged_.sequences()[task];
  const float* change = inputs_.change.data + task * Size(ragged_.padded_length());
  std::vector<std::int64_t> changed;
  for (std::int64_t row = sequence.first; row < sequence.first + sequence.count; ++row) {
    if (change[ragged_.Token(row)] != 0.0F) changed.push_back(row);
  }
  return changed;
}

// Their differences from the stored states, times the correction.
std::vector<float> GrowJob::PassedOn(const Sequence& sequence, const std::vector<std::int64_t>& changed) const {
  const simd::Level& simd = simd::Best();
  const std::size_t width = Size(inputs_.states.dims[1]);
  std::vector<float> differences(changed.size() * width);
  for (std::size_t i = 0; i < changed.size(); ++i) {
    const float* state = inputs_.states.data + changed[i] * inputs_.states.dims[1];
    float* difference = differences.data() + i * width;
    simd.halves_to_floats(Stored(sequence, ragged_.Token(changed[i])), difference, width);
    for (std::size_t k = 0; k < width; ++k) difference[k] = state[k] - difference[k];
  }
  std::vector<float> passed_on(differences.size());
  simd.add_product(differences.data(), changed.size(), width, width, inputs_.correction.data, width, width,
                   passed_on.data(), width);
  return passed_on;
}

void MemoGrow::Compute(const Context& context) const {
  GrowInputs inputs;
  inputs.states = context.Input<float, 2>(Input::kStates);
  const auto rows = context.Input<std::int64_t, 1>(Input::kRows);
  inputs.change = context.Input<float, 2>(Input::kChange);
  inputs.predicted = context.Input<float, 2>(Input::kPredicted);
  const auto entry = context.Input<std::int64_t, 1>(Input::kEntry);
  const auto length = context.Input<std::int64_t, 1>(Input::kLength);
  GrowStore store;
  store.stored = context.Input<std::uint16_t, 2>(Input::kStored);
  store.influence = context.Input<std::uint16_t, 1>(Input::kInfluence);
  store.offsets = context.Input<std::int64_t, 1>(Input::kOffsets);
  store.squares = context.Input<std::int64_t, 1>(Input::kSquares);
  inputs.bound = context.Single<float>(Input::kBound);
  inputs.correction = context.Input<float, 2>(Input::kCorrection);
  store.rollout = context.Input<std::uint16_t, 1>(Input::kRollout);

  const Ragged ragged(rows, entry, length, inputs.change.dims[1], store.offsets.dims[0]);
  const auto predicted = context.Output<float, 2>(Output::kPredictedNow, inputs.change.dims);
  GrowJob job(inputs, ragged, store, predicted);
  context.ForEach(job.tasks(), job.work(), [&](std::size_t task) { job.Run(task); });
  const std::int64_t count = job.Pack();
  const GrownRows grown{context.Output<float, 2>(Output::kGrown, {count, inputs.states.dims[1]}).data,
                        context.Output<std::int64_t, 1>(Output::kGrownRows, {count}).data,
                        context.Output<std::int64_t, 1>(Output::kStoredRows, {count}).data};
  context.ForEach(job.tasks(), job.write_work(), [&](std::size_t task) { job.Write(task, grown); });
}

}  // namespace onnx_memo
