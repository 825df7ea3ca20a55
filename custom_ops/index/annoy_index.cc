// Read-only search in the bytes of an Annoy index.
#include "index/annoy_index.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "ort/error.h"
#include "simd/prefetch.h"
#include "simd/simd.h"

namespace onnx_memo {
namespace {

constexpr std::int64_t kOffsetAt = 4;
constexpr std::int64_t kChildrenAt = 8;
constexpr std::int64_t kVectorAt = 16;
constexpr std::int64_t kNumber = 4;  // bytes of an int32 or a float

template <typename T>
T Read(const unsigned char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

std::int32_t Descendants(const unsigned char* node) { return Read<std::int32_t>(node); }

std::int32_t Child(const unsigned char* node, std::int64_t number) {
  return Read<std::int32_t>(node + kChildrenAt + number * kNumber);
}

// Nodes to visit, the most promising first; among equals the one with the larger number, as Annoy has it. Both stand in
// one integer of the same order, which a heap sorts twice as fast as a pair.
class Frontier {
 public:
  explicit Frontier(std::size_t capacity) { heap_.reserve(capacity); }

  bool empty() const { return heap_.empty(); }

  // `priority` is not NaN, `node` an int32 that is not negative.
  void Push(float priority, std::int64_t node) {
    heap_.push_back(std::uint64_t{Ordered(priority)} << 32 | static_cast<std::uint64_t>(node));
    std::push_heap(heap_.begin(), heap_.end());
  }

  std::pair<float, std::int64_t> Pop() {
    std::pop_heap(heap_.begin(), heap_.end());
    const std::uint64_t top = heap_.back();
    heap_.pop_back();
    return {Priority(static_cast<std::uint32_t>(top >> 32)), static_cast<std::int64_t>(top & 0xFFFFFFFFU)};
  }

 private:
  static constexpr std::uint32_t kSign = 0x80000000U;

  // Integers in the order of the floats: the bits of positive ones above those of negative ones, which count down.
  static std::uint32_t Ordered(float priority) {
    const float one_zero = priority + 0.0F;  // -0 equals 0
    const auto bits = Read<std::uint32_t>(reinterpret_cast<const unsigned char*>(&one_zero));
    return (bits & kSign) != 0 ? ~bits : bits | kSign;
  }

  static float Priority(std::uint32_t ordered) {
    const std::uint32_t bits = (ordered & kSign) != 0 ? ordered & ~kSign : ~ordered;
    return Read<float>(reinterpret_cast<const unsigned char*>(&bits));
  }

  std::vector<std::uint64_t> heap_;
};

}  // namespace

AnnoyIndex::AnnoyIndex(const unsigned char* bytes, std::int64_t size, std::int64_t dimensions, std::int64_t items)
    : bytes_(bytes),
      size_(size),
      dimensions_(dimensions),
      items_(items),
      node_size_(Sum(kVectorAt, Product(kNumber, dimensions))),
      nodes_(std::min<std::int64_t>(size / node_size_, std::numeric_limits<std::int32_t>::max())) {}

void AnnoyIndex::Validate() const {
  if (size_ / node_size_ > nodes_)
    Refuse("'index' has ", size_, " bytes, more nodes than 32 bits count; use fewer trees");
  if (size_ % node_size_ != 0) {
    Refuse("'index' has ", size_, " bytes, which is no whole number of nodes of ", node_size_,
           " bytes; build it over keys of ", dimensions_ - 1, " numbers and the length");
  }
  if (nodes_ <= items_) {
    Refuse("'index' has ", nodes_, " nodes and ", items_,
           " entries must be items, so that no root is left; build it again");
  }
  const std::int32_t held = Descendants(Node(nodes_ - 1));
  if (held != items_) {
    Refuse("the roots of 'index' hold ", held, " items and the store ", items_, " entries; build the index again");
  }
  for (std::int64_t node = items_; node < nodes_; ++node) ValidateNode(node);
}

void AnnoyIndex::ValidateNode(std::int64_t node) const {
  const std::int32_t descendants = Descendants(Node(node));
  const bool leaf = descendants <= dimensions_ + 2;
  if (descendants < 0) Refuse("node ", node, " of 'index' has ", descendants, " descendants; build the index again");
  for (std::int64_t i = 0; i < (leaf ? descendants : 2); ++i) {
    const std::int32_t child = Child(Node(node), i);
    if (child < 0 || child >= (leaf ? items_ : node)) {
      Refuse("node ", node, " of 'index' points to ", child, ", which is no ", leaf ? "item" : "earlier node",
             "; build the index again");
    }
  }
}

std::vector<std::int64_t> AnnoyIndex::Roots() const {
  std::vector<std::int64_t> roots;
  for (std::int64_t node = nodes_ - 1; node >= 0; --node) {
    if (Descendants(Node(node)) != Descendants(Node(nodes_ - 1))) break;
    roots.push_back(node);
  }
  // The roots are copies of nodes further up; the last of those originals may stand right before the copies.
  if (roots.size() > 1 && Child(Node(roots.front()), 0) == Child(Node(roots.back()), 0)) roots.pop_back();
  return roots;
}

void AnnoyIndex::Search(const float* query, std::size_t search_k, std::vector<std::int32_t>* candidates) const {
  const simd::Level& simd = simd::Best();
  const std::vector<std::int64_t> roots = Roots();
  Frontier frontier(roots.size() + std::min(search_k, Size(nodes_)));
  for (const std::int64_t root : roots) frontier.Push(std::numeric_limits<float>::infinity(), root);

  // Trees lead to each node once. Nodes that are reached more often belong to no tree, and there may be endless ways to
  // them.
  std::int64_t visits_left = nodes_;
  while (candidates->size() < search_k && !frontier.empty() && visits_left-- > 0) {
    const auto [priority, node] = frontier.Pop();
    if (IsItem(node)) {
      candidates->push_back(static_cast<std::int32_t>(node));
      continue;
    }
    const unsigned char* bytes = Node(node);
    const std::int32_t descendants = Descendants(bytes);
    if (descendants <= dimensions_ + 2) {
      AppendLeaf(node, descendants, candidates);
      continue;
    }
    float margin = Read<float>(bytes + kOffsetAt) + simd.inner_product(query, bytes + kVectorAt, Size(dimensions_));
    if (std::isnan(margin)) margin = 0;  // the order of the heap needs numbers
    for (const int side : {1, 0}) {
      const std::int64_t child = Child(bytes, side);
      if (child < 0 || child >= node) continue;
      Prefetch(Node(child), node_size_);
      frontier.Push(std::min(priority, side == 1 ? margin : -margin), child);
    }
  }
}

void AnnoyIndex::AppendLeaf(std::int64_t node, std::int32_t descendants, std::vector<std::int32_t>* candidates) const {
  for (std::int64_t i = 0; i < descendants; ++i) {
    const std::int32_t item = Child(Node(node), i);
    if (IsItem(item)) candidates->push_back(item);
  }
}

const unsigned char* AnnoyIndex::Vector(std::int32_t item) const { return Node(item) + kVectorAt; }

}  // namespace onnx_memo
