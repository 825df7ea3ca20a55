// Attention of the rows that run over stored keys and values, in which theirs are fresh.
#include "kernels/attention_job.h"

#include <algorithm>

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

AttentionJob::AttentionJob(const Heads& fresh, const Ragged& ragged, const StoredHeads& stored, float scale,
                           View<const float, 4> bias, Strided<float> context)
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
  if (fresh_.rows != ragged_.rows()) {
    Refuse("'rows' holds ", ragged_.rows(), " rows, and there are queries of ", fresh_.rows, "; give both the same");
  }
  const auto check = [](bool right, const char* name, const char* shape) {
    if (!right) Refuse("'", name, "' does not fit the other inputs; its shape must be ", shape);
  };
  check(stored_.keys.dims[1] == Product(fresh_.count, fresh_.key_width), "keys", "[rows, heads * width of keys]");
  check(stored_.values.dims[1] == Product(fresh_.count, fresh_.value_width), "values",
        "[rows, heads * width of values]");
  check(stored_.values.dims[0] == stored_.keys.dims[0], "values", "[rows, heads * width], with the rows of 'keys'");
}

void AttentionJob::CheckBias() const {
  const std::int64_t padded = ragged_.padded_length();
  const std::int64_t full[] = {static_cast<std::int64_t>(ragged_.sequences().size()), fresh_.count, padded, padded};
  for (std::size_t i = 0; i < 4; ++i) {
    if (bias_.dims[i] != 1 && bias_.dims[i] != full[i]) {
      Refuse("dimension ", i, " of 'bias' is ", bias_.dims[i], "; it must be 1 or ", full[i]);
    }
  }
}

std::size_t AttentionJob::tasks() const {
  if (fresh_.value_width == 0) return 0;
  return Size(Product(static_cast<std::int64_t>(running_.size()), fresh_.count));
}

// K[dk, n] of one head.
AttentionJob::Matrix AttentionJob::Keys(const Sequence& sequence, std::int64_t head, float* scratch) const {
  const std::int64_t width = fresh_.key_width;
  const std::int64_t n = sequence.tokens;
  if (width == 0) return {scratch, n};  // there are none to point to
  const Strided<const float>& key = fresh_.key;
  const float* fresh = key.At(head, sequence.first);
  const bool stored = sequence.entry != kMiss;
  if (!stored && key.row == 1) return {fresh, key.number};
  if (stored) {
    const std::uint16_t* halves =
        stored_.keys.data + stored_.offsets.data[sequence.entry] * stored_.keys.dims[1] + head * width * n;
    simd::Best().halves_to_floats(halves, scratch, Size(width * n));
  }
  for (std::int64_t r = 0; r < sequence.count; ++r) {
    const std::int64_t token = ragged_.Token(sequence.first + r);
    for (std::int64_t i = 0; i < width; ++i) scratch[i * n + token] = fresh[i * key.number + r * key.row];
  }
  return {scratch, n};
}

const std::uint16_t* AttentionJob::StoredValues(const Sequence& sequence, std::int64_t head) const {
  const std::int64_t first = stored_.offsets.data[sequence.entry] * stored_.values.dims[1];
  return stored_.values.data + first + head * sequence.tokens * fresh_.value_width;
}

// V[n, dv] of one head.
AttentionJob::Matrix AttentionJob::Values(const Sequence& sequence, std::int64_t head, float* scratch) const {
  const std::int64_t width = fresh_.value_width;
  const Strided<const float>& value = fresh_.value;
  if (sequence.entry == kMiss) return {value.At(head, sequence.first), value.row};
  const std::int64_t n = sequence.tokens;
  simd::Best().halves_to_floats(StoredValues(sequence, head), scratch, Size(n * width));
  for (std::int64_t r = 0; r < sequence.count; ++r) {
    const std::int64_t row = sequence.first + r;
    std::copy_n(value.At(head, row), width, scratch + ragged_.Token(row) * width);
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
  const std::int64_t width = fresh_.key_width;
  const std::int64_t value_width = fresh_.value_width;
  const std::int64_t b = running_[task / Size(fresh_.count)];
  const std::int64_t head = static_cast<std::int64_t>(task) % fresh_.count;
  const Sequence& sequence = ragged_.sequences()[Size(b)];
  const std::int64_t n = sequence.tokens;

  const std::int64_t key_floats = width * n;
  const std::int64_t value_floats = n * value_width;
  const std::int64_t block = std::min(kScoredRows, sequence.count);
  float* const scratch = Scratch(key_floats + value_floats + (block + 1) * n);
  if (sequence.entry != kMiss) {  // on their way while the keys are read
    Prefetch(reinterpret_cast<const unsigned char*>(StoredValues(sequence, head)),
             value_floats * static_cast<std::int64_t>(sizeof(std::uint16_t)));
  }
  const Matrix keys = Keys(sequence, head, scratch);
  const Matrix values = Values(sequence, head, scratch + key_floats);
  float* const scores = scratch + key_floats + value_floats;
  float* const same_bias = scores + block * n;

  for (std::int64_t begin = 0; begin < sequence.count; begin += block) {
    const std::int64_t count = std::min(block, sequence.count - begin);
    const std::int64_t first = sequence.first + begin;
    std::fill_n(scores, count * n, 0.0F);
    simd.add_product(fresh_.query.At(head, first), Size(count), Size(width), Size(fresh_.query.row), keys.numbers,
                     Size(keys.stride), Size(n), scores, Size(n));
    for (std::int64_t r = 0; r < count; ++r) {
      const float* bias = Bias(b, head, ragged_.Token(first + r));
      if (bias_.dims[3] == 1) {
        std::fill_n(same_bias, n, *bias);
        bias = same_bias;
      }
      simd.softmax(scale_, bias, scores + r * n, Size(n));
    }
    for (std::int64_t r = 0; r < count; ++r) std::fill_n(context_.At(head, first + r), value_width, 0.0F);
    simd.add_product(scores, Size(count), Size(n), Size(n), values.numbers, Size(values.stride), Size(value_width),
                     context_.At(head, first), Size(context_.row));
  }
}

}  // namespace onnx_memo
