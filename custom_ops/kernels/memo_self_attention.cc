// MemoSelfAttention: attention of packed sequences, each among its own rows.
#include "kernels/memo_self_attention.h"

#include <algorithm>

#include "kernels/attend_rows.h"

namespace onnx_memo {
namespace {

constexpr std::int64_t kFewTasks = 8;  // that threads cannot share evenly

}  // namespace

SelfAttentionJob::SelfAttentionJob(const Inputs& inputs, const simd::Level& level)
    : inputs_(inputs),
      level_(level),
      heads_(SideBySide(inputs.qkv, inputs.heads)),
      shape_{inputs.asking.dims[0], heads_.count * heads_.value_width} {
  if (inputs_.rows.dims[0] != heads_.rows) {
    Refuse("'qkv' holds ", heads_.rows, " rows and 'rows' ", inputs_.rows.dims[0], "; give both the same");
  }
  const std::vector<Sequence> sequences = Sequences();
  CheckBias();
  AddBlocks(sequences);
}

std::vector<SelfAttentionJob::Sequence> SelfAttentionJob::Sequences() const {
  std::vector<Sequence> sequences;
  const std::int64_t count = inputs_.rows.dims[0];
  if (count > 0 && inputs_.padded_length < 1) {
    Refuse("'padded_length' is ", inputs_.padded_length, "; give the length of the padded request");
  }
  std::int64_t before = -1;
  for (std::int64_t r = 0; r < count; ++r) {
    const std::int64_t row = inputs_.rows.data[r];
    if (row <= before) {
      Refuse("'rows' holds ", row, " at ", r, ", where more than ", before,
             " was expected; rows are not negative and rise");
    }
    const std::int64_t b = row / inputs_.padded_length;
    if (sequences.empty() || sequences.back().number != b) sequences.push_back({b, r, 0});
    ++sequences.back().count;
    before = row;
  }
  return sequences;
}

void SelfAttentionJob::CheckBias() const {
  const std::int64_t count = inputs_.rows.dims[0];
  const std::int64_t last = count == 0 ? -1 : inputs_.rows.data[count - 1] / inputs_.padded_length;
  const View<const float, 4>& bias = inputs_.bias;
  if (bias.dims[0] != 1 && bias.dims[0] <= last) {
    Refuse("dimension 0 of 'bias' is ", bias.dims[0], "; it must be 1 or above ", last,
           ", as 'rows' has that sequence");
  }
  const std::int64_t full[] = {heads_.count, inputs_.padded_length, inputs_.padded_length};
  for (std::size_t i = 0; i < 3; ++i) {
    if (bias.dims[i + 1] != 1 && bias.dims[i + 1] != full[i]) {
      Refuse("dimension ", i + 1, " of 'bias' is ", bias.dims[i + 1], "; it must be 1 or ", full[i]);
    }
  }
}

// Neighbours that ask are one block, as keys and values are packed for each anew; more only where tasks are few.
void SelfAttentionJob::AddBlocks(const std::vector<Sequence>& sequences) {
  const bool few = static_cast<std::int64_t>(sequences.size()) < kFewTasks && heads_.count < kFewTasks;
  const std::int64_t asking = inputs_.asking.dims[0];
  double work = 0;
  std::int64_t q = 0;
  for (const Sequence& sequence : sequences) {
    const std::int64_t most = few ? static_cast<std::int64_t>(kScoredRows) : sequence.count;
    for (std::int64_t r = 0; r < sequence.count && q < asking; ++r) {
      if (inputs_.asking.data[q] != inputs_.rows.data[sequence.first + r]) continue;
      const bool goes_on =
          !blocks_.empty() && blocks_.back().sequence.first == sequence.first && blocks_.back().end == r;
      if (goes_on && r - blocks_.back().begin < most) {
        ++blocks_.back().end;
      } else {
        blocks_.push_back({sequence, r, r + 1, q});
      }
      ++q;
      work += static_cast<double>(sequence.count);
    }
  }
  if (q < asking) {
    Refuse("'asking' holds ", inputs_.asking.data[q], " at ", q, ", which is not among what is left of 'rows'; ",
           "it must rise, and hold some of 'rows'");
  }
  work *= static_cast<double>(heads_.count) * static_cast<double>(heads_.key_width + heads_.value_width);
  work_ = static_cast<std::int64_t>(std::min(work, 1e18));  // only compared with a threshold
}

// What is added to the scores of one token of a sequence, for all of its rows.
void SelfAttentionJob::FillBias(const Sequence& sequence, std::int64_t head, std::int64_t token, float* to) const {
  const View<const float, 4>& bias = inputs_.bias;
  const auto at = [&bias](std::size_t i, std::int64_t index) { return bias.dims[i] == 1 ? 0 : index; };
  const std::int64_t number = (at(0, sequence.number) * bias.dims[1] + at(1, head)) * bias.dims[2] + at(2, token);
  const float* from = bias.data + number * bias.dims[3];
  const std::int64_t begin = Token(sequence.first);
  if (bias.dims[3] == 1) {
    std::fill_n(to, sequence.count, *from);
  } else if (Token(sequence.first + sequence.count - 1) - begin == sequence.count - 1) {  // no holes
    std::copy_n(from + begin, sequence.count, to);
  } else {
    for (std::int64_t j = 0; j < sequence.count; ++j) to[j] = from[Token(sequence.first + j)];
  }
}

void SelfAttentionJob::Run(std::size_t task, float* context) const {
  const Block& block = blocks_[task / Size(heads_.count)];
  const Sequence& sequence = block.sequence;
  const std::int64_t head = static_cast<std::int64_t>(task) % heads_.count;
  const simd::AttendedHead attended = {Size(sequence.count),
                                       Size(heads_.key_width),
                                       Size(heads_.value_width),
                                       heads_.key.At(head, sequence.first),
                                       heads_.value.At(head, sequence.first),
                                       Size(heads_.key.row)};

  const simd::AttendingRows rows = {Size(block.end - block.begin),
                                    heads_.query.At(head, sequence.first + block.begin),
                                    Size(heads_.query.row),
                                    inputs_.scale,
                                    nullptr,
                                    0,
                                    context + block.context * shape_[1] + head * heads_.value_width,
                                    Size(shape_[1])};
  AttendRows(
      level_, attended, rows, inputs_.bias.dims[2] == 1, [&](float* packed) { level_.pack_head(attended, packed); },
      [&](std::int64_t r, float* bias) { FillBias(sequence, head, Token(sequence.first + block.begin + r), bias); });
}

void MemoSelfAttention::Compute(const Context& context) const {
  std::vector<std::int64_t> dims;
  SelfAttentionJob::Inputs inputs;
  inputs.qkv = context.Rows<float>(Input::kQkv, &dims);
  inputs.heads = context.Input<std::int64_t, 1>(Input::kHeads);
  inputs.rows = context.Input<std::int64_t, 1>(Input::kRows);
  inputs.asking = context.Input<std::int64_t, 1>(Input::kAsking);
  inputs.padded_length = context.Single<std::int64_t>(Input::kPaddedLength);
  inputs.scale = context.Single<float>(Input::kScale);
  inputs.bias = context.Input<float, 4>(Input::kBias);

  const SelfAttentionJob job(inputs, simd::Best());
  float* const output = context.OutputOf<float>(Output::kContext, ContextDims(dims, job.heads(), job.shape()[0]));
  context.ForEach(job.tasks(), job.work(), [&](std::size_t task) { job.Run(task, output); });
}

}  // namespace onnx_memo
