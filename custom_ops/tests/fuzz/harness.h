// What the fuzz targets share: inputs made from the fuzzer's bytes, and the call of an operator with its checks.
//
// Inputs are first plausible, so that kernels get to their inner loops, and then disturbed: numbers, sizes, ranks and
// element types. All tensors have their own exact allocation, so that a sanitizer reports any read beyond.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/entries.h"
#include "tests/check.h"
#include "tests/fake_ort.h"
#include "tests/naive.h"

// What libFuzzer calls, and main.cc.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace onnx_memo::testing {

using Inputs = std::vector<FakeValue>;

constexpr std::int64_t kAffordable = 1 << 19;  // steps up to which an output is compared with the naive one

// Hands out the fuzzer's bytes as numbers. When they end, zeros follow.
class Source {
 public:
  Source(const std::uint8_t* data, std::size_t size);

  // Floats and halves are all small integers, whose sums are exact in any order. Else they have any bits.
  bool exact() const { return exact_; }

  std::uint8_t Byte() { return at_ == end_ ? std::uint8_t{0} : *at_++; }
  std::int64_t Below(std::int64_t end);  // `end` is at most 65536
  std::int64_t Dim();                    // mostly small, else past the kernels' blocks of 60, 64 and 132
  std::int64_t Hostile();                // any int64, the extremes first of all

  float Float();
  Floats SomeFloats(std::int64_t count);
  Halves SomeHalves(std::int64_t count);
  Integers SomeIntegers(std::int64_t count, std::int64_t begin, std::int64_t end);  // in [begin, end)

  // The scalar as a tensor of either shape that operators take.
  FakeValue Scalar(float number);
  FakeValue Scalar(std::int64_t number);

  // The bytes of an Annoy index of these points, mostly overwritten in part.
  std::vector<std::uint8_t> Index(const Floats& points, std::int64_t dimensions);

  // Overwrites up to 23 words of four bytes.
  void Overwrite(std::vector<std::uint8_t>* bytes);

  // Makes up to three changes.
  void Disturb(Inputs* inputs);

 private:
  std::vector<std::int64_t> ScalarDims();
  void DisturbElement(FakeValue* value);
  void DisturbDim(FakeValue* value);
  void DisturbSize(Inputs* inputs, const FakeValue& value);
  void DisturbRank(FakeValue* value);

  const std::uint8_t* at_;
  const std::uint8_t* end_;
  bool exact_;
  std::uint32_t random_;
};

// A batch over a store of the level `rows`, in which every number fits.
struct Batch {
  explicit Batch(Source& source);

  std::int64_t size() const { return static_cast<std::int64_t>(entry.size()); }
  std::int64_t running() const { return static_cast<std::int64_t>(rows.size()); }

  std::int64_t padded_length;
  Integers entry, length, rows;
  Integers offsets, squares;
  std::int64_t stored = 0;   // rows of all entries
  std::int64_t numbers = 0;  // the sum of their squares
};

FakeValue Vector(const Integers& numbers);

// Calls the operator, and checks what holds of every call: an exception does not get out, a refusal is one line that
// begins with the operator's name, and outputs have the types that its table says.
FakeResult Call(const char* name, const Inputs& inputs);
FakeResult Call(const ort::CustomOp* op, void* kernel, const Inputs& inputs);
const FakeOrt& Host();

inline bool Refused(const FakeResult& result) { return !result.message.empty(); }

// The only number of a tensor.
template <typename T>
T Single(const FakeValue& value) {
  return Numbers<T>(value).at(0);
}

// Whether the rows rise, and stand in tokens of the batch.
void CheckRows(const Integers& rows, const Integers& length, std::int64_t padded_length);

// Whether each row's stored row is the one of its entry; 0 without.
void CheckStoredRows(const Integers& rows, const Integers& stored_rows, const Integers& entry, const Integers& offsets,
                     std::int64_t padded_length);

}  // namespace onnx_memo::testing
