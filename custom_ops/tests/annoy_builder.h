// Writes small valid indexes in the format of annoy_index.h. Comparison with the Annoy package itself: tests/native/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace onnx_memo::testing {

class AnnoyBuilder {
 public:
  // `points` holds items of `dimensions` floats each.
  AnnoyBuilder(std::vector<float> points, std::size_t dimensions, unsigned seed = 1)
      : points_(std::move(points)), dimensions_(dimensions), random_(seed) {
    items_ = static_cast<std::int32_t>(points_.size() / dimensions_);
    for (std::int32_t item = 0; item < items_; ++item) AppendNode(1, 0, {}, Point(item));
  }

  std::vector<std::uint8_t> Build(std::size_t trees) {
    std::vector<std::int32_t> all(static_cast<std::size_t>(items_));
    for (std::int32_t item = 0; item < items_; ++item) all[static_cast<std::size_t>(item)] = item;
    std::vector<std::int32_t> roots;
    for (std::size_t tree = 0; tree < trees; ++tree) roots.push_back(AppendTree(all, /*root=*/true));
    for (const std::int32_t root : roots) {  // the copies by which a reader finds the roots
      const std::vector<std::uint8_t> node(Node(root), Node(root) + NodeSize());
      bytes_.insert(bytes_.end(), node.begin(), node.end());
    }
    return bytes_;
  }

  std::size_t NodeSize() const { return 16 + 4 * dimensions_; }

 private:
  const float* Point(std::int32_t item) const { return points_.data() + static_cast<std::size_t>(item) * dimensions_; }
  const std::uint8_t* Node(std::int32_t node) const {
    return bytes_.data() + static_cast<std::size_t>(node) * NodeSize();
  }

  // `children` may run over the vector's place; otherwise `vector` holds `dimensions` floats.
  std::int32_t AppendNode(std::int32_t descendants, float offset, const std::vector<std::int32_t>& children,
                          const float* vector) {
    const std::size_t begin = bytes_.size();
    bytes_.resize(begin + NodeSize());
    std::uint8_t* node = bytes_.data() + begin;
    std::memcpy(node, &descendants, 4);
    std::memcpy(node + 4, &offset, 4);
    if (vector != nullptr) std::memcpy(node + 16, vector, 4 * dimensions_);
    if (!children.empty()) std::memcpy(node + 8, children.data(), 4 * children.size());
    return static_cast<std::int32_t>(begin / NodeSize());
  }

  std::int32_t AppendTree(const std::vector<std::int32_t>& members, bool root) {
    if (members.size() == 1 && !root) return members[0];
    const auto count = static_cast<std::int32_t>(members.size());
    if (members.size() <= dimensions_ + 2) return AppendNode(count, 0, members, nullptr);

    std::vector<float> plane(dimensions_);
    float offset = 0;
    std::vector<std::int32_t> sides[2];
    ChoosePlane(members, &plane, &offset);
    for (const std::int32_t item : members) sides[Side(item, plane, offset)].push_back(item);
    if (sides[0].empty() || sides[1].empty()) {  // equal points
      sides[0].assign(members.begin(), members.begin() + count / 2);
      sides[1].assign(members.begin() + count / 2, members.end());
    }
    const std::int32_t left = AppendTree(sides[0], /*root=*/false);
    const std::int32_t right = AppendTree(sides[1], /*root=*/false);
    return AppendNode(count, offset, {left, right}, plane.data());
  }

  // The plane halfway between two random members.
  void ChoosePlane(const std::vector<std::int32_t>& members, std::vector<float>* plane, float* offset) {
    std::uniform_int_distribution<std::size_t> any(0, members.size() - 1);
    const float* a = Point(members[any(random_)]);
    const float* b = Point(members[any(random_)]);
    for (std::size_t i = 0; i < dimensions_; ++i) {
      (*plane)[i] = a[i] - b[i];
      *offset -= (*plane)[i] * (a[i] + b[i]) / 2;
    }
  }

  std::size_t Side(std::int32_t item, const std::vector<float>& plane, float offset) const {
    float margin = offset;
    for (std::size_t i = 0; i < dimensions_; ++i) margin += plane[i] * Point(item)[i];
    return margin > 0 ? 1 : 0;
  }

  std::vector<float> points_;
  std::size_t dimensions_;
  std::int32_t items_;
  std::mt19937 random_;
  std::vector<std::uint8_t> bytes_;
};

// The items of a store's index as MemoLookup expects them: keys[k, N] and 16 times the lengths.
inline std::vector<float> StorePoints(const std::vector<float>& keys, std::size_t width,
                                      const std::vector<std::int64_t>& lengths) {
  std::vector<float> points;
  for (std::size_t entry = 0; entry < lengths.size(); ++entry) {
    for (std::size_t i = 0; i < width; ++i) points.push_back(keys[i * lengths.size() + entry]);
    points.push_back(16.0F * static_cast<float>(lengths[entry]));
  }
  return points;
}

inline std::vector<std::uint8_t> BuildStoreIndex(const std::vector<float>& keys, std::size_t width,
                                                 const std::vector<std::int64_t>& lengths, std::size_t trees) {
  return AnnoyBuilder(StorePoints(keys, width, lengths), width + 1).Build(trees);
}

}  // namespace onnx_memo::testing
