// Read-only search in the bytes of an index file of the Annoy package (metric Euclidean, 32-bit items).
//
// The file is an array of nodes of 16 + 4 * dimensions bytes, in the processor's byte order:
//
//     int32 descendants | float offset | int32 children[2] | float vector[dimensions]
//
// The first nodes are the items, in order. A later node with at most `dimensions + 2` descendants is a leaf: their
// numbers stand from `children` on, over the vector's place. Any other is a split: points with offset + vector.p < 0
// are below children[0], the rest below children[1]. Nodes only point to earlier ones. The roots stand last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace onnx_memo {

class AnnoyIndex {
 public:
  AnnoyIndex() = default;

  // Does not read the bytes, which must outlive this object. `dimensions` is positive, `items` not negative.
  AnnoyIndex(const unsigned char* bytes, std::int64_t size, std::int64_t dimensions, std::int64_t items);

  // Reads every node. Throws InvalidArgument unless the bytes are whole nodes, the roots hold all items, and every node
  // points to items or earlier nodes.
  void Validate() const;

  // Appends the items that Annoy's own search visits for `query`[dimensions] and this `search_k`, in its order, with
  // repetitions. On bytes that are no valid index the candidates are arbitrary items, and the search still ends.
  void Search(const float* query, std::size_t search_k, std::vector<std::int32_t>* candidates) const;

  // The floats of an item, unaligned.
  const unsigned char* Vector(std::int32_t item) const;

 private:
  const unsigned char* Node(std::int64_t node) const { return bytes_ + node * node_size_; }
  bool IsItem(std::int64_t node) const { return node >= 0 && node < items_; }
  void ValidateNode(std::int64_t node) const;
  std::vector<std::int64_t> Roots() const;
  void AppendLeaf(std::int64_t node, std::int32_t descendants, std::vector<std::int32_t>* candidates) const;

  const unsigned char* bytes_ = nullptr;
  std::int64_t size_ = 0;
  std::int64_t dimensions_ = 0;
  std::int64_t items_ = 0;
  std::int64_t node_size_ = 0;
  std::int64_t nodes_ = 0;
};

}  // namespace onnx_memo
