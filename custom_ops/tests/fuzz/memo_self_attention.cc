// MemoSelfAttention against its definition.
#include "kernels/memo_self_attention.h"

#include <algorithm>
#include <cmath>

#include "tests/fuzz/harness.h"

using namespace onnx_memo;
using namespace onnx_memo::testing;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Source source(data, size);
  SelfAttentionCase request{};
  request.heads = 1 + source.Below(3);
  request.key_width = 1 + source.Dim();
  request.value_width = 1 + source.Dim();
  request.padded_length = 1 + source.Dim();
  const std::int64_t batch = 1 + source.Below(3);
  const std::int64_t step = 1 + source.Below(4);  // of the rows that a sequence has
  for (std::int64_t row = source.Dim(); row < batch * request.padded_length; row += 1 + source.Below(step)) {
    request.rows.push_back(row);
  }
  Integers asking = request.rows;
  if (source.Below(2) == 1) {
    asking.erase(std::remove_if(asking.begin(), asking.end(), [&](std::int64_t) { return source.Below(3) == 1; }),
                 asking.end());
  }
  const std::uint8_t which = source.Byte();
  const std::int64_t full[] = {batch, request.heads, request.padded_length, request.padded_length};
  for (std::size_t i = 0; i < 4; ++i) request.bias_dims[i] = (which >> i) % 2 == 0 ? 1 : full[i];
  const auto& dims = request.bias_dims;
  request.bias = source.SomeFloats(dims[0] * dims[1] * dims[2] * dims[3]);
  request.qkv = source.SomeFloats(request.count() * request.width());
  request.scale = source.Float() / 4;
  Inputs inputs = {FloatTensor({request.count(), request.width()}, request.qkv),
                   Vector(Integers{request.heads, request.key_width, request.value_width}),
                   Vector(request.rows),
                   Vector(asking),
                   source.Scalar(request.padded_length),
                   source.Scalar(request.scale),
                   FloatTensor({dims[0], dims[1], dims[2], dims[3]}, request.bias)};
  const Inputs before = inputs;
  source.Disturb(&inputs);

  const FakeResult result = Call(MemoSelfAttention::kName, inputs);
  if (Refused(result)) return 0;
  const FakeValue& context = result.outputs[MemoSelfAttention::kContext];
  const auto heads = Numbers<std::int64_t>(inputs[MemoSelfAttention::kHeads]);
  Integers dims_of_context = inputs[MemoSelfAttention::kQkv].dims;
  dims_of_context[dims_of_context.size() - 2] = inputs[MemoSelfAttention::kAsking].dims[0];
  dims_of_context.back() = heads[0] * heads[2];
  CHECK(context.dims == dims_of_context);
  bool same = source.exact() && request.qkv.size() * request.rows.size() <= Size(kAffordable);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    same &= inputs[i].dims == before[i].dims && inputs[i].bytes == before[i].bytes;
  }
  if (!same) return 0;
  const auto numbers = Numbers<float>(context);
  const float* number = numbers.data();
  for (std::int64_t r = 0; r < request.count(); ++r) {
    if (!std::binary_search(asking.begin(), asking.end(), request.rows[Size(r)])) continue;
    for (std::int64_t h = 0; h < request.heads; ++h) {
      for (const double expected : NaiveSelfAttention(request, h, r)) {
        CHECK(std::abs(static_cast<double>(*number++) - expected) < 1e-4);
      }
    }
  }
  return 0;
}
