// The index over arbitrary bytes: whatever they are, the search ends and stays inside them.
#include "index/annoy_index.h"

#include <algorithm>
#include <limits>

#include "tests/fuzz/harness.h"

using namespace onnx_memo;
using namespace onnx_memo::testing;

namespace {

constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

template <typename Body>
bool Refused(const Body& body) {
  return Message<InvalidArgument>(body) != "nothing thrown";
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Source source(data, size);
  std::int64_t dimensions = 1 + source.Dim();
  std::int64_t items = source.Dim();
  const std::vector<std::uint8_t> bytes = source.Index(source.SomeFloats(items * dimensions), dimensions);
  if (source.Byte() % 4 == 3) items = source.Hostile() & kMost;
  if (source.Byte() % 4 == 3)
    dimensions = source.Byte() % 2 == 0 ? 1 + source.Dim() : std::max<std::int64_t>(1, source.Hostile() & kMost);
  const auto bytes_size = static_cast<std::int64_t>(bytes.size());
  const Floats query = source.SomeFloats(std::min(dimensions, bytes_size));  // one that is longer fits no node
  const auto search_k = static_cast<std::size_t>(source.Below(1024));
  if (Refused([&] { AnnoyIndex(bytes.data(), bytes_size, dimensions, items); })) return 0;

  const AnnoyIndex index(bytes.data(), bytes_size, dimensions, items);
  if (!Refused([&] { index.Validate(); })) CHECK(items < bytes_size / (16 + 4 * dimensions));
  std::vector<std::int32_t> candidates;
  index.Search(query.data(), search_k, &candidates);
  CHECK(candidates.empty() || candidates.size() < search_k + Size(dimensions) + 2);
  volatile unsigned char read = 0;
  for (const std::int32_t item : candidates) {
    CHECK(item >= 0 && item < items);
    for (std::int64_t i = 0; i < 4 * dimensions; ++i) read = index.Vector(item)[i];
  }
  static_cast<void>(read);
  return 0;
}
