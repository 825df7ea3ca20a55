// MemoAttention against its definition.
#include "kernels/memo_attention.h"

#include <cmath>

#include "tests/fuzz/harness.h"

using namespace onnx_memo;
using namespace onnx_memo::testing;

namespace {

AttentionCase Case(const Inputs& inputs) {
  const FakeValue& bias = inputs[MemoAttention::kBias];
  return {Numbers<std::int64_t>(inputs[MemoAttention::kRows]),
          Numbers<std::int64_t>(inputs[MemoAttention::kEntry]),
          Numbers<std::int64_t>(inputs[MemoAttention::kLength]),
          Single<std::int64_t>(inputs[MemoAttention::kPaddedLength]),
          inputs[MemoAttention::kQuery].dims[0],
          inputs[MemoAttention::kQuery].dims[2],
          inputs[MemoAttention::kValue].dims[2],
          Numbers<float>(inputs[MemoAttention::kQuery]),
          Numbers<float>(inputs[MemoAttention::kKey]),
          Numbers<float>(inputs[MemoAttention::kValue]),
          inputs[MemoAttention::kKeys].dims[0],
          Numbers<std::uint16_t>(inputs[MemoAttention::kKeys]),
          Numbers<std::uint16_t>(inputs[MemoAttention::kValues]),
          Numbers<std::int64_t>(inputs[MemoAttention::kOffsets]),
          Single<float>(inputs[MemoAttention::kScale]),
          {bias.dims[0], bias.dims[1], bias.dims[2], bias.dims[3]},
          Numbers<float>(bias)};
}

void CheckNumbers(const AttentionCase& request, const Floats& output) {
  const float* number = output.data();
  for (std::int64_t h = 0; h < request.heads && request.value_width > 0; ++h) {
    for (std::int64_t r = 0; r < request.running(); ++r) {
      for (const double expected : NaiveAttention(request, h, r)) {
        CHECK(std::abs(static_cast<double>(*number++) - expected) < 1e-4);
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Source source(data, size);
  const Batch batch(source);
  const std::int64_t heads = source.Below(4);
  const std::int64_t key_width = source.Dim();
  const std::int64_t value_width = source.Dim();
  const std::int64_t running = batch.running();
  const std::int64_t full[] = {batch.size(), heads, batch.padded_length, batch.padded_length};
  const std::uint8_t which = source.Byte();
  Integers bias;
  for (std::size_t i = 0; i < 4; ++i) bias.push_back((which >> i) % 2 == 0 ? 1 : full[i]);
  const auto fresh = [&](std::int64_t width) { return source.SomeFloats(heads * running * width); };
  const auto stored = [&](std::int64_t width) {
    return HalfTensor({batch.stored, heads * width}, source.SomeHalves(batch.stored * heads * width));
  };
  Inputs inputs = {FloatTensor({heads, running, key_width}, fresh(key_width)),
                   FloatTensor({heads, key_width, running}, fresh(key_width)),
                   FloatTensor({heads, running, value_width}, fresh(value_width)),
                   Vector(batch.rows),
                   Vector(batch.entry),
                   Vector(batch.length),
                   source.Scalar(batch.padded_length),
                   stored(key_width),
                   stored(value_width),
                   Vector(batch.offsets),
                   source.Scalar(source.Float() / 4),
                   FloatTensor(bias, source.SomeFloats(bias[0] * bias[1] * bias[2] * bias[3]))};
  source.Disturb(&inputs);

  const FakeResult result = Call(MemoAttention::kName, inputs);
  if (Refused(result)) return 0;
  CHECK(result.outputs[MemoAttention::kContext].dims == inputs[MemoAttention::kValue].dims);
  if (!source.exact()) return 0;
  const AttentionCase request = Case(inputs);
  const std::size_t elements = request.query.size() + request.value.size();
  if (elements * Size(request.padded_length) > kAffordable) return 0;
  CheckNumbers(request, Numbers<float>(result.outputs[MemoAttention::kContext]));
  return 0;
}
