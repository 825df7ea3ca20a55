// MemoRowsAttention against its definition.
#include "kernels/memo_rows_attention.h"

#include <cmath>

#include "tests/fuzz/harness.h"

using namespace onnx_memo;
using namespace onnx_memo::testing;

namespace {

AttentionCase Case(Source& source) {
  const Batch batch(source);
  AttentionCase request{};
  request.rows = batch.rows;
  request.entry = batch.entry;
  request.length = batch.length;
  request.padded_length = batch.padded_length;
  request.heads = 1 + source.Below(3);
  request.key_width = 1 + source.Dim();
  request.value_width = 1 + source.Dim();
  const std::uint8_t which = source.Byte();
  const std::int64_t full[] = {batch.size(), request.heads, batch.padded_length, batch.padded_length};
  std::int64_t numbers = 1;
  for (std::size_t i = 0; i < 4; ++i) numbers *= request.bias_dims[i] = (which >> i) % 2 == 0 ? 1 : full[i];
  request.bias = source.SomeFloats(numbers);
  request.query = source.SomeFloats(request.heads * request.running() * request.key_width);
  request.key = source.SomeFloats(request.heads * request.running() * request.key_width);
  request.value = source.SomeFloats(request.heads * request.running() * request.value_width);
  request.stored_rows = batch.stored;
  request.keys = source.SomeHalves(batch.stored * request.heads * request.key_width);
  request.values = source.SomeHalves(batch.stored * request.heads * request.value_width);
  request.offsets = batch.offsets;
  request.scale = source.Float() / 4;
  return request;
}

// One axis of rows, or two.
Integers Leading(Source& source, std::int64_t rows) {
  return source.Below(2) == 0 ? Integers{rows} : Integers{1, rows};
}

void CheckNumbers(const AttentionCase& request, const Floats& output) {
  const float* number = output.data();
  for (std::int64_t r = 0; r < request.running(); ++r) {
    for (std::int64_t h = 0; h < request.heads; ++h) {
      for (const double expected : NaiveAttention(request, h, r)) {
        CHECK(std::abs(static_cast<double>(*number++) - expected) < 1e-4);
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Source source(data, size);
  const AttentionCase request = Case(source);
  const auto& dims = request.bias_dims;
  Integers shape = Leading(source, request.running());
  shape.push_back(request.heads * (2 * request.key_width + request.value_width));
  Inputs inputs = {FloatTensor(shape, NaiveSideBySide(request)),
                   Vector(Integers{request.heads, request.key_width, request.value_width}),
                   Vector(request.rows),
                   Vector(request.entry),
                   Vector(request.length),
                   source.Scalar(request.padded_length),
                   HalfTensor({request.stored_rows, request.heads * request.key_width}, request.keys),
                   HalfTensor({request.stored_rows, request.heads * request.value_width}, request.values),
                   Vector(request.offsets),
                   source.Scalar(request.scale),
                   FloatTensor({dims[0], dims[1], dims[2], dims[3]}, request.bias)};
  const Inputs before = inputs;
  source.Disturb(&inputs);

  const FakeResult result = Call(MemoRowsAttention::kName, inputs);
  if (Refused(result)) return 0;
  const FakeValue& context = result.outputs[MemoRowsAttention::kContext];
  const auto heads = Numbers<std::int64_t>(inputs[MemoRowsAttention::kHeads]);
  Integers expected = inputs[MemoRowsAttention::kQkv].dims;
  expected.back() = heads[0] * heads[2];
  CHECK(context.dims == expected);
  const std::size_t elements = request.query.size() + request.value.size();
  bool same = source.exact() && elements * Size(request.padded_length) <= Size(kAffordable);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    same &= inputs[i].dims == before[i].dims && inputs[i].bytes == before[i].bytes;
  }
  if (same) CheckNumbers(request, Numbers<float>(context));
  return 0;
}
