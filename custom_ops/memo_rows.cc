// MemoRows: chooses the rows of a request that have to run when all others come from the store.
#include "memo_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "entries.h"
#include "prefetch.h"
#include "ragged.h"
#include "simd/simd.h"

namespace onnx_memo {
namespace {

constexpr float kMostChange = 8.0F;  // counts in a score
constexpr std::int64_t kAhead = 4;   // rows that are fetched before they are compared

// 0/0 is 0 and x/0 infinity.
float Change(const simd::Compared& compared) {
  if (compared.difference == 0.0F) return 0.0F;
  return std::sqrt(compared.difference) / std::sqrt(compared.norm);
}

constexpr std::int64_t kHalfBytes = sizeof(std::uint16_t);
constexpr std::uint32_t kSign = 0x80000000U;

// Rises with the score, then with the token. The bits of floats are in the floats' order once those of negative ones
// are inverted and those of others are behind them. NaN counts as infinity.
std::uint64_t Key(float score, std::int64_t token) {
  if (std::isnan(score)) score = std::numeric_limits<float>::infinity();
  score += 0.0F;  // -0 becomes 0
  std::uint32_t bits = 0;
  std::memcpy(&bits, &score, sizeof bits);
  bits ^= (bits & kSign) != 0 ? ~0U : kSign;
  return (std::uint64_t{bits} << 32) | static_cast<std::uint64_t>(token);
}

float ScoreOf(std::uint64_t key) {
  auto bits = static_cast<std::uint32_t>(key >> 32);
  bits ^= (bits & kSign) != 0 ? kSign : ~0U;
  float score = 0;
  std::memcpy(&score, &bits, sizeof score);
  return score;
}

std::size_t TokenOf(std::uint64_t key) { return static_cast<std::uint32_t>(key); }

}  // namespace

RowsJob::RowsJob(View<const float, 3> states, View<const std::int64_t, 1> entry, View<const std::int64_t, 1> length,
                 const RowsStore& store, const RowsLimits& limits)
    : states_(states), entry_(entry), length_(length), store_(store), limits_(limits) {
  CheckShapes();
  for (std::int64_t b = 0; b < entry_.dims[0]; ++b) CheckEntry(b);
  hopeless_ = Hopeless();
  if (hopeless_) return;

  most_ = static_cast<double>(limits_.limit) * static_cast<double>(Product(states_.dims[0], states_.dims[1]));
  std::int64_t without = 0;  // tokens of sequences without an entry; like `tokens` at most B * L
  std::int64_t tokens = 0;
  for (std::int64_t b = 0; b < entry_.dims[0]; ++b) {
    if (entry_.data[b] == kMiss) {
      without += length_.data[b];
    } else {
      sequences_.push_back({b, tokens});
      tokens += length_.data[b];
    }
  }
  if (!AddRunning(without)) return;
  work_ = Product(tokens, states_.dims[2]);
  runs_.resize(Size(tokens));
  changes_.resize(Size(tokens));
  scores_.resize(Size(tokens));
  order_.resize(Size(tokens));
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

bool RowsJob::Hopeless() const {
  const std::int64_t batch = entry_.dims[0];
  if (!(limits_.bound >= 0) || batch == 0 || (batch == 1 && entry_.data[0] == kMiss)) return true;
  return std::any_of(length_.data, length_.data + batch, [](std::int64_t tokens) { return tokens < 0; });
}

// Whether that many may run in addition.
bool RowsJob::AddRunning(std::int64_t count) noexcept {
  const std::int64_t running = running_.fetch_add(count) + count;
  if (static_cast<double>(running) <= most_) return true;
  hopeless_ = true;
  return false;
}

void RowsJob::Run(std::size_t task) noexcept {
  const Sequence& sequence = sequences_[task];
  if (hopeless_ || !Measure(sequence)) return;
  Score(sequence);
  Choose(sequence);
}

// Finds the changed rows. Gives up as soon as they are too many.
bool RowsJob::Measure(const Sequence& sequence) noexcept {
  const simd::Level& simd = simd::Best();
  const std::int64_t width = states_.dims[2];
  const std::int64_t tokens = length_.data[sequence.batch];
  const float* states = states_.data + sequence.batch * states_.dims[1] * width;
  const std::uint16_t* stored = store_.stored.data + store_.offsets.data[entry_.data[sequence.batch]] * width;
  for (std::int64_t t = 0; t < tokens; ++t) {
    if (t + kAhead < tokens) {
      Prefetch(reinterpret_cast<const unsigned char*>(stored + (t + kAhead) * width), width * kHalfBytes);
    }
    const float change = Change(simd.compare(states + t * width, stored + t * width, Size(width)));
    changes_[Size(sequence.first + t)] = change;
    if (change <= limits_.epsilon) continue;
    runs_[Size(sequence.first + t)] = 1;
    if (!AddRunning(1)) return false;
    Prefetch(reinterpret_cast<const unsigned char*>(Influence(sequence.batch, t)), tokens * kHalfBytes);
  }
  return true;
}

// What all changes do to each row.
void RowsJob::Score(const Sequence& sequence) noexcept {
  const simd::Level& simd = simd::Best();
  const std::int64_t tokens = length_.data[sequence.batch];
  for (std::int64_t j = 0; j < tokens; ++j) {
    const std::size_t at = Size(sequence.first + j);
    if (runs_[at] == 0) continue;
    const float change = changes_[at] < kMostChange ? changes_[at] : kMostChange;  // also in place of NaN
    simd.add_scaled_halves(change, Influence(sequence.batch, j), scores_.data() + sequence.first, Size(tokens));
  }
}

// Leaves out the least scores as long as their sum allows it.
void RowsJob::Choose(const Sequence& sequence) noexcept {
  const std::int64_t tokens = length_.data[sequence.batch];
  std::uint64_t* const begin = order_.data() + sequence.first;
  std::uint64_t* end = begin;
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::size_t at = Size(sequence.first + t);
    if (runs_[at] == 0) *end++ = Key(scores_[at], t);
  }
  std::sort(begin, end);
  const float most = limits_.bound * static_cast<float>(tokens);
  float sum = 0;
  const std::uint64_t* next = begin;
  while (next != end && (sum += ScoreOf(*next)) <= most) ++next;
  AddRunning(end - next);
  for (; next != end; ++next) runs_[Size(sequence.first) + TokenOf(*next)] = 1;
}

void RowsJob::Write(std::int64_t* rows, std::int64_t* stored_rows) const {
  if (!hit()) return;
  auto sequence = sequences_.begin();
  for (std::int64_t b = 0; b < entry_.dims[0]; ++b) {
    const std::int64_t e = entry_.data[b];
    for (std::int64_t t = 0; t < length_.data[b]; ++t) {
      if (e != kMiss && runs_[Size(sequence->first + t)] == 0) continue;
      *rows++ = b * states_.dims[1] + t;
      *stored_rows++ = e == kMiss ? 0 : store_.offsets.data[e] + t;
    }
    if (e != kMiss) ++sequence;
  }
}

void MemoRows::Compute(const Context& context) const {
  const auto states = context.Input<float, 3>(0, "states");
  const auto entry = context.Input<std::int64_t, 1>(1, "entry");
  const auto length = context.Input<std::int64_t, 1>(2, "length");
  RowsStore store;
  store.stored = context.Input<std::uint16_t, 2>(3, "stored");
  store.influence = context.Input<std::uint16_t, 1>(4, "influence");
  store.offsets = context.Input<std::int64_t, 1>(5, "offsets");
  store.squares = context.Input<std::int64_t, 1>(6, "squares");
  RowsLimits limits{};
  limits.epsilon = context.Single<float>(7, "epsilon");
  limits.bound = context.Single<float>(8, "bound");
  limits.limit = context.Single<float>(9, "limit");

  RowsJob job(states, entry, length, store, limits);
  context.ForEach(job.tasks(), job.work(), [&](std::size_t task) { job.Run(task); });
  const auto rows = context.Output<std::int64_t, 1>(0, {job.count()});
  const auto stored_rows = context.Output<std::int64_t, 1>(1, {job.count()});
  job.Write(rows.data, stored_rows.data);
  *context.Output<bool, 0>(2, {}).data = job.hit();
}

}  // namespace onnx_memo
