// MemoLookup: finds the stored entry nearest to each row of a request.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "index/annoy_index.h"
#include "kernels/entries.h"
#include "ort/context.h"
#include "ort/view.h"

namespace onnx_memo {

// What is searched: keys[k, N], one entry a column, entries ordered by length.
struct LookupStore {
  View<const float, 2> keys;
  View<const std::int64_t, 1> lengths;
  View<const std::uint8_t, 1> index;

  // Throws InvalidArgument when the shapes do not fit each other.
  void CheckShapes() const;

  // Throws InvalidArgument when the index is not empty and not a valid Annoy index of these keys.
  void ValidateIndex() const;

  // The entry of this length nearest to `query`[k], or a miss if its distance exceeds `threshold` or there is none.
  std::int64_t Nearest(const float* query, std::int64_t length, float threshold) const;

 private:
  struct Range;
  struct Found;

  AnnoyIndex Annoy() const;
  Range EntriesOfLength(std::int64_t length) const;
  Found SearchAll(const float* query, Range range) const;
  static void OfferBlock(std::int64_t first, std::int64_t count, const float* distances, Found* found);
  Found SearchIndex(const float* query, std::int64_t length, Range range, float bound) const;
  float Distance(const float* query, std::int64_t entry) const;
};

class MemoLookup {
 public:
  static constexpr const char* kName = "MemoLookup";
  enum Input : std::size_t { kQuery, kLength, kKeys, kLengths, kThreshold, kIndex };
  static constexpr TensorSpec kInputs[] = {
      {"query", ort::ElementType::kFloat},     {"length", ort::ElementType::kInt64},
      {"keys", ort::ElementType::kFloat},      {"lengths", ort::ElementType::kInt64},
      {"threshold", ort::ElementType::kFloat}, {"index", ort::ElementType::kUint8},
  };
  enum Output : std::size_t { kEntry, kHit };
  static constexpr TensorSpec kOutputs[] = {
      {"entry", ort::ElementType::kInt64},
      {"hit", ort::ElementType::kBool},
  };

  void Compute(const Context& context);

 private:
  void ValidateOnce(const LookupStore& store);

  // The index that was found valid. It is a constant of the model, so its place identifies it; and the search does not
  // rely on this for safety, only for the clear message.
  std::atomic<const std::uint8_t*> valid_index_{nullptr};
  std::atomic<std::int64_t> valid_size_{0};
};

}  // namespace onnx_memo
