// MemoProduct, and those that go on from it, against their definition.
#include "kernels/memo_product.h"

#include <algorithm>
#include <cmath>

#include "kernels/memo_product_norm.h"
#include "tests/fuzz/harness.h"

using namespace onnx_memo;
using namespace onnx_memo::testing;

namespace {

// The product `v` and what follows it, one row of `columns` after the other.
std::vector<double> Expected(const std::string& name, std::vector<double> v) {
  if (name == MemoProductRelu::kName) {
    for (double& x : v) x = std::max(x, 0.0);
  } else if (name == MemoProductGelu::kName) {
    for (double& x : v) x *= 0.5 * std::erfc(-x / std::sqrt(2.0));
  } else if (name == MemoProductGeluTanh::kName) {
    for (double& x : v) x *= 0.5 * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
  } else if (name == MemoProductSilu::kName) {
    for (double& x : v) x /= 1 + std::exp(-x);
  }
  return v;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Source source(data, size);
  ProductCase request;
  request.rows = source.Dim();
  request.inner = 4 * source.Below(20);
  request.columns = source.Dim();
  for (std::int64_t k = source.Below(8); k < request.inner; k += 1 + source.Below(30)) request.channels.push_back(k);
  request.x = source.SomeFloats(request.rows * request.inner);
  for (const std::int64_t weight : source.SomeIntegers(request.inner * request.columns, -127, 128)) {
    request.weights.push_back(static_cast<std::int8_t>(weight));
  }
  request.scales = source.SomeFloats(request.columns);
  request.bias = source.SomeFloats(request.columns);
  const auto channels = static_cast<std::int64_t>(request.channels.size());
  request.apart = source.SomeFloats(channels * request.columns);
  const std::vector<std::int8_t> packed = request.Packed();
  Inputs inputs = {
      FloatTensor({request.rows, request.inner}, request.x),
      Tensor(ort::ElementType::kInt8, {(request.columns + 47) / 48, request.inner / 4, 48, 4}, packed),
      Tensor(ort::ElementType::kInt32, {request.columns}, request.Sums()),
      FloatTensor({request.columns}, request.scales),
      FloatTensor({request.columns}, request.bias),
      Vector(request.channels),
      FloatTensor({channels, request.columns}, request.apart),
  };
  constexpr const char* kNames[] = {MemoProduct::kName,     MemoProductGelu::kName, MemoProductGeluTanh::kName,
                                    MemoProductRelu::kName, MemoProductSilu::kName, MemoProductNorm::kName};
  const std::string name = kNames[source.Byte() % std::size(kNames)];
  const bool norm = name == MemoProductNorm::kName;
  const Floats residual = norm ? source.SomeFloats(request.rows * request.columns) : Floats();
  if (norm) {
    inputs.push_back(FloatTensor({request.rows, request.columns}, residual));
    inputs.push_back(FloatTensor({request.columns}, source.SomeFloats(request.columns)));
    inputs.push_back(FloatTensor({request.columns}, source.SomeFloats(request.columns)));
    inputs.push_back(source.Scalar(source.Float()));
  }
  const Inputs before = inputs;
  source.Disturb(&inputs);

  const FakeResult result = Call(name.c_str(), inputs);
  if (Refused(result)) return 0;
  const FakeValue& y = result.outputs[norm ? std::size_t{MemoProductNorm::kSum} : std::size_t{MemoProduct::kY}];
  const std::vector<std::int64_t>& dims = inputs[MemoProduct::kX].dims;
  CHECK(y.dims.size() == dims.size());
  CHECK(std::equal(dims.begin(), dims.end() - 1, y.dims.begin()));
  CHECK(y.dims.back() == inputs[MemoProduct::kScales].dims[0]);
  bool same = source.exact();
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    same &= inputs[i].dims == before[i].dims && inputs[i].bytes == before[i].bytes;
  }
  if (!same) return 0;
  const auto numbers = Numbers<float>(y);
  std::vector<double> expected = Expected(name, NaiveProduct(request));
  if (norm) {
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += static_cast<double>(residual[i]);
    CHECK(result.outputs[MemoProductNorm::kY].dims == y.dims);
  }
  CHECK(numbers.size() == expected.size());
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    CHECK(std::abs(static_cast<double>(numbers[i]) - expected[i]) <= 1e-3 * (1 + std::abs(expected[i])));
  }
  return 0;
}
