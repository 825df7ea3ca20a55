// MemoLookup: finds the stored entry nearest to each row of a request.
#include "kernels/memo_lookup.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "simd/prefetch.h"
#include "simd/simd.h"

namespace onnx_memo {
namespace {

constexpr std::int64_t kExactLimit = 2048;  // entries of one length up to which all are compared
constexpr std::size_t kSearchK = 256;       // candidates that are taken from the index
constexpr std::size_t kAhead = 8;           // candidates whose keys are fetched while one is compared
constexpr std::int64_t kFirstPart = 16;     // numbers of a key that are compared first
constexpr float kLengthScale = 16.0F;       // of the length beside the key in the index

bool AnyNan(const float* numbers, std::int64_t count) {
  return std::any_of(numbers, numbers + count, [](float x) { return std::isnan(x); });
}

}  // namespace

struct LookupStore::Range {
  std::int64_t begin;
  std::int64_t end;
};

// The nearest entry so far. Distances that are NaN are never near.
struct LookupStore::Found {
  std::int64_t entry = kMiss;
  float distance = std::numeric_limits<float>::infinity();

  void Offer(std::int64_t candidate, float its_distance) {
    const bool nearer = its_distance < distance;
    const bool first = its_distance <= distance && (entry == kMiss || candidate < entry);
    if (nearer || first) *this = {candidate, its_distance};
  }
};

void LookupStore::CheckShapes() const {
  if (lengths.dims[0] != keys.dims[1]) {
    Refuse("'keys' holds ", keys.dims[1], " entries and 'lengths' ", lengths.dims[0],
           "; both must describe the same store");
  }
  if (index.dims[0] > 0 && keys.dims[1] > std::numeric_limits<std::int32_t>::max()) {
    Refuse("'keys' holds ", keys.dims[1], " entries, more than an index can; leave 'index' empty");
  }
}

AnnoyIndex LookupStore::Annoy() const {
  return AnnoyIndex(index.data, index.dims[0], Sum(keys.dims[0], 1), keys.dims[1]);
}

void LookupStore::ValidateIndex() const {
  if (index.dims[0] > 0) Annoy().Validate();
}

std::int64_t LookupStore::Nearest(const float* query, std::int64_t length, float threshold) const {
  const bool hopeless = length < 0 || !(threshold >= 0) || keys.dims[1] == 0;
  if (hopeless || AnyNan(query, keys.dims[0])) return kMiss;
  const Range range = EntriesOfLength(length);
  if (range.begin == range.end) return kMiss;
  const bool exact = index.dims[0] == 0 || range.end - range.begin <= kExactLimit;
  const float bound = threshold * threshold * 1.0001F;  // room for sums taken in another order
  Found found{range.begin, 0.0F};                       // keys without numbers are all equally near
  if (keys.dims[0] > 0) found = exact ? SearchAll(query, range) : SearchIndex(query, length, range, bound);
  // A store whose lengths are out of order must not return an entry of another length.
  if (found.entry == kMiss || lengths.data[found.entry] != length) return kMiss;
  return std::sqrt(found.distance) <= threshold ? found.entry : kMiss;
}

LookupStore::Range LookupStore::EntriesOfLength(std::int64_t length) const {
  const std::int64_t* const first = lengths.data;
  const std::int64_t* const last = first + lengths.dims[0];
  const std::int64_t* const begin = std::lower_bound(first, last, length);
  return {begin - first, std::upper_bound(begin, last, length) - first};  // ordered even when the lengths are not
}

LookupStore::Found LookupStore::SearchAll(const float* query, Range range) const {
  constexpr std::int64_t kBlock = 256;
  const simd::Level& simd = simd::Best();
  float distances[kBlock];
  Found found;
  for (std::int64_t block = range.begin; block < range.end; block += kBlock) {
    const std::int64_t count = std::min(kBlock, range.end - block);
    const float least =
        simd.column_distances(query, Size(keys.dims[0]), keys.data + block, Size(keys.dims[1]), Size(count), distances);
    if (least < found.distance || found.entry == kMiss) OfferBlock(block, count, distances, &found);
  }
  return found;
}

void LookupStore::OfferBlock(std::int64_t first, std::int64_t count, const float* distances, Found* found) {
  for (std::int64_t i = 0; i < count; ++i) found->Offer(first + i, distances[i]);
}

// The index holds a copy of each key in one piece; candidates are compared by that, the best one then by `keys`. Most
// are given up after the first part of their key: their squared distance already exceeds `bound` or that of the best so
// far.
LookupStore::Found LookupStore::SearchIndex(const float* query, std::int64_t length, Range range, float bound) const {
  const simd::Level& simd = simd::Best();
  const std::int64_t width = keys.dims[0];
  std::vector<float> point(query, query + width);
  point.push_back(kLengthScale * static_cast<float>(length));

  const AnnoyIndex annoy = Annoy();
  std::vector<std::int32_t> candidates;
  candidates.reserve(kSearchK + Size(width));
  annoy.Search(point.data(), kSearchK, &candidates);

  const std::int64_t first = std::min(kFirstPart, width);
  const auto bytes_of_first = static_cast<std::int64_t>(sizeof(float)) * first;
  Found found{kMiss, bound};
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (i + kAhead < candidates.size()) Prefetch(annoy.Vector(candidates[i + kAhead]), bytes_of_first);
    if (candidates[i] < range.begin || candidates[i] >= range.end) continue;
    const unsigned char* key = annoy.Vector(candidates[i]);
    const float distance = simd.distance(query, key, Size(first));
    if (distance > found.distance) continue;
    found.Offer(candidates[i], distance + simd.distance(query + first, key + bytes_of_first, Size(width - first)));
  }
  if (found.entry != kMiss) found.distance = Distance(query, found.entry);
  return found;
}

float LookupStore::Distance(const float* query, std::int64_t entry) const {
  float distance = 0;
  simd::Best().column_distances(query, Size(keys.dims[0]), keys.data + entry, Size(keys.dims[1]), 1, &distance);
  return distance;
}

void MemoLookup::ValidateOnce(const LookupStore& store) {
  if (store.index.data == valid_index_.load() && store.index.dims[0] == valid_size_.load()) return;
  store.ValidateIndex();
  valid_index_.store(store.index.data);
  valid_size_.store(store.index.dims[0]);
}

void MemoLookup::Compute(const Context& context) {
  const auto query = context.Input<float, 2>(Input::kQuery);
  const auto length = context.Input<std::int64_t, 1>(Input::kLength);
  LookupStore store;
  store.keys = context.Input<float, 2>(Input::kKeys);
  store.lengths = context.Input<std::int64_t, 1>(Input::kLengths);
  const auto threshold = context.Single<float>(Input::kThreshold);
  store.index = context.Input<std::uint8_t, 1>(Input::kIndex);

  store.CheckShapes();
  if (query.dims[1] != store.keys.dims[0]) {
    Refuse("'query' is ", query.dims[1], " wide and 'keys' ", store.keys.dims[0],
           "; the store was built for another model");
  }
  if (query.dims[0] != length.dims[0]) {
    Refuse("'query' holds ", query.dims[0], " rows and 'length' ", length.dims[0], "; give one length a row");
  }
  ValidateOnce(store);

  const auto entry = context.Output<std::int64_t, 1>(Output::kEntry, {query.dims[0]});
  const std::int64_t width = query.dims[1];
  const std::int64_t compared = std::min(store.keys.dims[1], kExactLimit);
  context.ForEach(Size(query.dims[0]), Product(Product(query.dims[0], compared), width), [&](std::size_t row) {
    const auto b = static_cast<std::int64_t>(row);
    entry.data[b] = store.Nearest(query.data + b * width, length.data[b], threshold);
  });

  std::int64_t* const end = entry.data + query.dims[0];
  *context.Output<bool, 0>(Output::kHit, {}).data = query.dims[0] > 0 && std::find(entry.data, end, kMiss) == end;
}

}  // namespace onnx_memo
