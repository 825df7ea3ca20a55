// MemoLookup: the answers of exact searches are those of a plain loop, and all are true. One kernel is called twice,
// the second time with other bytes in the place of an index that it has validated.
#include "kernels/memo_lookup.h"

#include <algorithm>
#include <cmath>

#include "tests/annoy_builder.h"
#include "tests/fuzz/harness.h"

using namespace onnx_memo;
using namespace onnx_memo::testing;

namespace {

constexpr std::int64_t kMany = 2049;  // entries of one length, of which not all are compared

struct Answers {
  Floats query, keys;
  Integers length, lengths, entry;
  std::size_t width, batch;
  float threshold;

  Answers(const Inputs& inputs, const FakeResult& result)
      : query(Numbers<float>(inputs[MemoLookup::kQuery])),
        keys(Numbers<float>(inputs[MemoLookup::kKeys])),
        length(Numbers<std::int64_t>(inputs[MemoLookup::kLength])),
        lengths(Numbers<std::int64_t>(inputs[MemoLookup::kLengths])),
        entry(Numbers<std::int64_t>(result.outputs[MemoLookup::kEntry])),
        width(Size(inputs[MemoLookup::kKeys].dims[0])),
        batch(length.size()),
        threshold(Single<float>(inputs[MemoLookup::kThreshold])) {}

  // An entry of the row's length at no more than the threshold, or a miss.
  void CheckTrue(std::size_t b) const {
    if (entry[b] == kMiss) return;
    CHECK(entry[b] >= 0 && entry[b] < static_cast<std::int64_t>(lengths.size()));
    CHECK(lengths[Size(entry[b])] == length[b] && length[b] >= 0);
    double sum = 0;
    for (std::size_t i = 0; i < width; ++i) {
      sum += std::pow(static_cast<double>(query[b * width + i] - keys[i * lengths.size() + Size(entry[b])]), 2);
    }
    CHECK(!(std::sqrt(sum) > 1.001 * static_cast<double>(threshold) + 1e-18));  // smaller squares vanish in floats
  }

  void CheckExact(std::size_t b) const {
    const std::int64_t expected =
        length[b] < 0 ? kMiss : NaiveLookup(query.data() + b * width, length[b], keys, lengths, width, threshold);
    CHECK(entry[b] == expected);
  }
};

void Check(const Inputs& inputs, const FakeResult& result, bool exact) {
  const Answers answers(inputs, result);
  CHECK(result.outputs[MemoLookup::kEntry].dims == Integers({static_cast<std::int64_t>(answers.batch)}));
  CHECK(result.outputs[MemoLookup::kHit].dims.empty());
  const bool hit = answers.batch > 0 && std::count(answers.entry.begin(), answers.entry.end(), kMiss) == 0;
  CHECK(result.outputs[MemoLookup::kHit].bytes[0] == (hit ? 1 : 0));
  const bool all = inputs[MemoLookup::kIndex].bytes.empty() || answers.lengths.size() < Size(kMany);
  const bool sorted = std::is_sorted(answers.lengths.begin(), answers.lengths.end());
  for (std::size_t b = 0; b < answers.batch; ++b) {
    answers.CheckTrue(b);
    if (exact && all && sorted) answers.CheckExact(b);
  }
}

struct Store {
  std::int64_t width, entries;
  Floats keys;
  Integers lengths;

  explicit Store(Source& source) {
    const bool many = source.Byte() % 4 == 3;
    width = many ? source.Below(4) : source.Dim();
    entries = many ? kMany + source.Dim() : source.Dim();
    keys = source.SomeFloats(width * entries);
    lengths = source.SomeIntegers(many ? 4 : entries, 1, 4);
    lengths.resize(Size(entries), 4);
    std::sort(lengths.begin(), lengths.end());
  }

  std::vector<std::uint8_t> Index(Source& source) const {
    if (source.Byte() % 2 == 0) return {};
    return source.Index(StorePoints(keys, Size(width), lengths), width + 1);
  }

  Inputs Request(Source& source, const std::vector<std::uint8_t>& index) const {
    const std::int64_t batch = source.Dim();
    const float threshold = source.exact() ? static_cast<float>(source.Below(16)) : source.Float();
    return {FloatTensor({batch, width}, source.SomeFloats(batch * width)),
            Vector(source.SomeIntegers(batch, 0, 6)),
            FloatTensor({width, entries}, keys),
            Vector(lengths),
            source.Scalar(threshold),
            ByteTensor(index)};
  }
};

void CheckCall(const ort::CustomOp* op, void* kernel, const Inputs& inputs, const Source& source) {
  const FakeResult result = Call(op, kernel, inputs);
  if (!Refused(result)) Check(inputs, result, source.exact());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Source source(data, size);
  const ort::CustomOp* const op = Host().Find(MemoLookup::kName);
  void* const kernel = Host().CreateKernel(op);
  const Store first(source);
  Inputs inputs = first.Request(source, first.Index(source));
  source.Disturb(&inputs);
  CheckCall(op, kernel, inputs, source);

  source.Overwrite(&inputs[MemoLookup::kIndex].bytes);
  Inputs others = Store(source).Request(source, {});
  others[MemoLookup::kIndex] = std::move(inputs[MemoLookup::kIndex]);  // the bytes stay where they are
  source.Disturb(&others);
  CheckCall(op, kernel, others, source);
  op->KernelDestroy(kernel);
  return 0;
}
