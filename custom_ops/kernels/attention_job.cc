// Attention of the rows that run over stored keys and values, in which theirs are fresh.
#include "kernels/attention_job.h"

#include <algorithm>

#include "kernels/attend_rows.h"
#include "kernels/entries.h"
#include "simd/prefetch.h"
#include "simd/simd.h"

namespace onnx_memo {
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

// The entry's keys and values, in which those of the tokens that run are fresh.
void AttentionJob::Pack(const simd::Level& level, const simd::AttendedHead& attended, const Sequence& sequence,
                        std::int64_t head, float* packed) const {
  if (sequence.entry == kMiss) {  // all tokens run; nothing that is not finite may stand beyond them
    std::fill_n(packed, attended.packed(), 0.0F);
  } else {
    const std::int64_t first = stored_.offsets.data[sequence.entry];
    const auto of_head = [&](const View<const std::uint16_t, 2>& payload, std::int64_t width) {
      return payload.data + first * payload.dims[1] + head * sequence.tokens * width;
    };
    const simd::StoredHead stored = {of_head(stored_.keys, fresh_.key_width),
                                     of_head(stored_.values, fresh_.value_width)};
    // On their way while the keys are read.
    Prefetch(reinterpret_cast<const unsigned char*>(stored.values),
             sequence.tokens * fresh_.value_width * static_cast<std::int64_t>(sizeof(std::uint16_t)));
    level.pack_stored(attended, stored, packed);
  }
  for (std::int64_t row = sequence.first; row < sequence.first + sequence.count; ++row) {
    const float* const key = fresh_.key_width == 0 ? nullptr : fresh_.key.At(head, row);
    level.repack_token(attended, Size(ragged_.Token(row)), key, Size(fresh_.key.number), fresh_.value.At(head, row),
                       packed);
  }
}

// What is added to the scores of a token, for all tokens of its sequence.
void AttentionJob::FillBias(std::int64_t b, std::int64_t head, std::int64_t token, std::int64_t n, float* bias) const {
  const auto at = [this](std::size_t i, std::int64_t index) { return bias_.dims[i] == 1 ? 0 : index; };
  const std::int64_t row = (at(0, b) * bias_.dims[1] + at(1, head)) * bias_.dims[2] + at(2, token);
  const float* const from = bias_.data + row * bias_.dims[3];
  if (bias_.dims[3] == 1) {
    std::fill_n(bias, n, *from);
  } else {
    std::copy_n(from, n, bias);
  }
}

void AttentionJob::Run(std::size_t task) const {
  const simd::Level& level = simd::Best();
  const std::int64_t b = running_[task / Size(fresh_.count)];
  const std::int64_t head = static_cast<std::int64_t>(task) % fresh_.count;
  const Sequence& sequence = ragged_.sequences()[Size(b)];
  const simd::AttendedHead attended = {Size(sequence.tokens), Size(fresh_.key_width), Size(fresh_.value_width)};
  const simd::AttendingRows rows = {Size(sequence.count),
                                    fresh_.query.At(head, sequence.first),
                                    Size(fresh_.query.row),
                                    scale_,
                                    nullptr,
                                    0,
                                    context_.At(head, sequence.first),
                                    Size(context_.row)};
  AttendRows(
      level, attended, rows, bias_.dims[2] == 1, [&](float* packed) { Pack(level, attended, sequence, head, packed); },
      [&](std::int64_t r, float* bias) {
        FillBias(b, head, ragged_.Token(sequence.first + r), sequence.tokens, bias);
      });
}

}  // namespace onnx_memo
