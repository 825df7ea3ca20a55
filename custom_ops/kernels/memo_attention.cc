// MemoAttention: attention of the rows that run over stored keys and values, in which theirs are fresh.
#include "kernels/memo_attention.h"

#include <algorithm>
#include <array>

#include "kernels/entries.h"
#include "simd/prefetch.h"
#include "simd/simd.h"

namespace onnx_memo {
namespace {

constexpr std::int64_t kScoredRows =
    60;  // rows whose scores are held at a time; a multiple of the tile heights in simd/

// At least `count` floats of this thread's, kept from call to call: a request may need too many for the stack.
float* Scratch(std::int64_t count) {
  static thread_local std::vector<float> floats;
  if (floats.size() < Size(count)) floats.resize(Size(count));
  return floats.data();
}

}  // namespace

AttentionJob::AttentionJob(const FreshHeads& fresh, const Ragged& ragged, const StoredHeads& stored, float scale,
                           View<const float, 4> bias, View<float, 3> context)
    : fresh_(fresh), ragged_(ragged), stored_(stored), scale_(scale), bias_(bias), context_(context) {
  CheckShapes();
  CheckBias();
  double work = 0;
  for (std::size_t b = 0; b < ragged_.sequences().size(); ++b) {
    const Sequence& sequence = ragged_.sequences()[b];
    if (sequence.entry != kMiss) {
      CheckOwned(sequence.entry, stored_.offsets.data[sequence.entry], sequence.tokens, stored_.keys.dims[0], "keys");
    }
    if (sequence.count == 0) continue;
    running_.push_back(static_cast<std::int64_t>(b));
    work += static_cast<double>(sequence.count + 1) * static_cast<double>(sequence.tokens);
  }
  work *= static_cast<double>(stored_.keys.dims[1]) + static_cast<double>(stored_.values.dims[1]);
  work_ = static_cast<std::int64_t>(std::min(work, 1e18));  // only compared with a threshold
}

void AttentionJob::CheckShapes() const {
  const auto [heads, rows, key_width] = fresh_.query.dims;
  const std::int64_t value_width = fresh_.value.dims[2];
  const auto check = [](bool right, const char* name, const char* shape) {
    if (!right) Refuse("'", name, "' does not fit the other inputs; its shape must be ", shape);
  };
  check(rows == ragged_.rows(), "query", "[heads, rows, width], with as many rows as 'rows'");
  check(fresh_.key.dims == std::array{heads, key_width, rows}, "key", "[heads, width, rows], like that of 'query'");
  check(fresh_.value.dims == std::array{heads, rows, value_width}, "value",
        "[heads, rows, width], like that of 'query'");
  check(stored_.keys.dims[1] == Product(heads, key_width), "keys", "[rows, heads * width], as of 'query'");
  check(stored_.values.dims[1] == Product(heads, value_width), "values", "[rows, heads * width], as of 'value'");
  check(stored_.values.dims[0] == stored_.keys.dims[0], "values", "[rows, heads * width], with the rows of 'keys'");
}

void AttentionJob::CheckBias() const {
  const std::int64_t padded = ragged_.padded_length();
  const std::int64_t full[] = {static_cast<std::int64_t>(ragged_.sequences().size()), fresh_.query.dims[0], padded,
                               padded};
  for (std::size_t i = 0; i < 4; ++i) {
    if (bias_.dims[i] != 1 && bias_.dims[i] != full[i]) {
      Refuse("dimension ", i, " of 'bias' is ", bias_.dims[i], "; it must be 1 or ", full[i]);
    }
  }
}

std::size_t AttentionJob::tasks() const {
  return context_.dims[2] == 0 ? 0 : Size(Product(static_cast<std::int64_t>(running_.size()), context_.dims[0]));
}

// K[dk, n] of one head.
AttentionJob::Matrix AttentionJob::Keys(const Sequence& sequence, std::int64_t head, float* scratch) const {
  const auto [heads, width, rows] = fresh_.key.dims;
  if (width == 0) return {scratch, sequence.tokens};  // there are none to point to
  const float* fresh = fresh_.key.data + head * width * rows + sequence.first;
  if (sequence.entry == kMiss) return {fresh, rows};
  const std::int64_t n = sequence.tokens;
  const std::uint16_t* halves =
      stored_.keys.data + stored_.offsets.data[sequence.entry] * stored_.keys.dims[1] + head * width * n;
  simd::Best().halves_to_floats(halves, scratch, Size(width * n));
  for (std::int64_t r = 0; r < sequence.count; ++r) {
    const std::int64_t token = ragged_.Token(sequence.first + r);
    for (std::int64_t i = 0; i < width; ++i) scratch[i * n + token] = fresh[i * rows + r];
  }
  return {scratch, n};
}

const std::uint16_t* AttentionJob::StoredValues(const Sequence& sequence, std::int64_t head) const {
  const std::int64_t first = stored_.offsets.data[sequence.entry] * stored_.values.dims[1];
  return stored_.values.data + first + head * sequence.tokens * fresh_.value.dims[2];
}

// V[n, dv] of one head.
AttentionJob::Matrix AttentionJob::Values(const Sequence& sequence, std::int64_t head, float* scratch) const {
  const auto [heads, rows, width] = fresh_.value.dims;
  const float* fresh = fresh_.value.data + (head * rows + sequence.first) * width;
  if (sequence.entry == kMiss) return {fresh, width};
  const std::int64_t n = sequence.tokens;
  simd::Best().halves_to_floats(StoredValues(sequence, head), scratch, Size(n * width));
  for (std::int64_t r = 0; r < sequence.count; ++r) {
    std::copy_n(fresh + r * width, width, scratch + ragged_.Token(sequence.first + r) * width);
  }
  return {scratch, width};
}

// The numbers that are added to a row's scores, or the only one.
const float* AttentionJob::Bias(std::int64_t b, std::int64_t head, std::int64_t token) const {
  const auto at = [this](std::size_t i, std::int64_t index) { return bias_.dims[i] == 1 ? 0 : index; };
  const std::int64_t row = (at(0, b) * bias_.dims[1] + at(1, head)) * bias_.dims[2] + at(2, token);
  return bias_.data + row * bias_.dims[3];
}

void AttentionJob::Run(std::size_t task) const {
  const simd::Level& simd = simd::Best();
  const auto [heads, rows, width] = fresh_.query.dims;
  const std::int64_t value_width = context_.dims[2];
  const std::int64_t b = running_[task / Size(heads)];
  const std::int64_t head = static_cast<std::int64_t>(task) % heads;
  const Sequence& sequence = ragged_.sequences()[Size(b)];
  const std::int64_t n = sequence.tokens;

  const bool stored = sequence.entry != kMiss;
  const std::int64_t key_floats = stored ? width * n : 0;
  const std::int64_t value_floats = stored ? n * value_width : 0;
  const std::int64_t block = std::min(kScoredRows, sequence.count);
  float* const scratch = Scratch(key_floats + value_floats + (block + 1) * n);
  if (stored) {  // on their way while the keys are read
    Prefetch(reinterpret_cast<const unsigned char*>(StoredValues(sequence, head)),
             value_floats * static_cast<std::int64_t>(sizeof(std::uint16_t)));
  }
  const Matrix keys = Keys(sequence, head, scratch);
  const Matrix values = Values(sequence, head, scratch + key_floats);
  float* const scores = scratch + key_floats + value_floats;
  float* const same_bias = scores + block * n;

  for (std::int64_t begin = 0; begin < sequence.count; begin += block) {
    const std::int64_t count = std::min(block, sequence.count - begin);
    const std::int64_t first = head * rows + sequence.first + begin;
    std::fill_n(scores, count * n, 0.0F);
    simd.add_product(fresh_.query.data + first * width, Size(count), Size(width), Size(width), keys.numbers,
                     Size(keys.stride), Size(n), scores, Size(n));
    for (std::int64_t r = 0; r < count; ++r) {
      const float* bias = Bias(b, head, ragged_.Token(sequence.first + begin + r));
      if (bias_.dims[3] == 1) {
        std::fill_n(same_bias, n, *bias);
        bias = same_bias;
      }
      simd.softmax(scale_, bias, scores + r * n, Size(n));
    }
    float* const context = context_.data + first * value_width;
    std::fill_n(context, count * value_width, 0.0F);
    simd.add_product(scores, Size(count), Size(n), Size(n), values.numbers, Size(values.stride), Size(value_width),
                     context, Size(value_width));
  }
}

void MemoAttention::Compute(const Context& context) const {
  FreshHeads fresh;
  fresh.query = context.Input<float, 3>(Input::kQuery);
  fresh.key = context.Input<float, 3>(Input::kKey);
  fresh.value = context.Input<float, 3>(Input::kValue);
  const auto rows = context.Input<std::int64_t, 1>(Input::kRows);
  const auto entry = context.Input<std::int64_t, 1>(Input::kEntry);
  const auto length = context.Input<std::int64_t, 1>(Input::kLength);
  const auto padded_length = context.Single<std::int64_t>(Input::kPaddedLength);
  StoredHeads stored;
  stored.keys = context.Input<std::uint16_t, 2>(Input::kKeys);
  stored.values = context.Input<std::uint16_t, 2>(Input::kValues);
  stored.offsets = context.Input<std::int64_t, 1>(Input::kOffsets);
  const auto scale = context.Single<float>(Input::kScale);
  const auto bias = context.Input<float, 4>(Input::kBias);

  const Ragged ragged(rows, entry, length, padded_length, stored.offsets.dims[0]);
  const auto output = context.Output<float, 3>(Output::kContext, fresh.value.dims);
  const AttentionJob job(fresh, ragged, stored, scale, bias, output);
  context.ForEach(job.tasks(), job.work(), [&](std::size_t task) { job.Run(task); });
}

}  // namespace onnx_memo
