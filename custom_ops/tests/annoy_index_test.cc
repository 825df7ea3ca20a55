// The index is searched as Annoy does it, and damaged bytes end in a status or a harmless search.
#include "index/annoy_index.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "ort/error.h"
#include "tests/annoy_builder.h"
#include "tests/check.h"
#include "tests/naive.h"

namespace onnx_memo::testing {
namespace {

constexpr std::size_t kDimensions = 3;
constexpr std::size_t kNode = 16 + 4 * kDimensions;
constexpr std::size_t kEverything = 1U << 30;

using Bytes = std::vector<std::uint8_t>;

Bytes Build(std::size_t items, std::size_t trees, unsigned seed = 1) {
  std::mt19937 random(seed);
  return AnnoyBuilder(RandomFloats(random, items * kDimensions), kDimensions, seed).Build(trees);
}

AnnoyIndex Open(const Bytes& bytes, std::size_t items) {
  return AnnoyIndex(bytes.data(), static_cast<std::int64_t>(bytes.size()), kDimensions,
                    static_cast<std::int64_t>(items));
}

std::vector<std::int32_t> Search(const AnnoyIndex& index, std::size_t search_k) {
  const Floats query(kDimensions, 0.1F);
  std::vector<std::int32_t> candidates;
  index.Search(query.data(), search_k, &candidates);
  return candidates;
}

std::string Refusal(const Bytes& bytes, std::size_t items) {
  return Message<InvalidArgument>([&] { Open(bytes, items).Validate(); });
}

void Write(Bytes* bytes, std::size_t node, std::size_t at, std::int32_t number) {
  std::memcpy(bytes->data() + node * kNode + at, &number, sizeof number);
}

// A node of each kind in an index of 40 items: everything up to 5 descendants is a leaf.
std::size_t FirstLeaf() { return 40; }
std::size_t LastRoot(const Bytes& bytes) { return bytes.size() / kNode - 1; }

TEST(an_index_of_any_size_is_valid_and_all_items_are_reached) {
  for (const std::size_t items : {1U, 2U, 5U, 6U, 40U, 500U}) {
    const Bytes bytes = Build(items, 3);
    Open(bytes, items).Validate();
    const auto found = Search(Open(bytes, items), kEverything);
    CHECK(std::set<std::int32_t>(found.begin(), found.end()).size() == items);
  }
}

TEST(the_original_of_the_last_root_is_not_searched_twice) {
  CHECK(Search(Open(Build(40, 1), 40), kEverything).size() == 40);
  CHECK(Search(Open(Build(40, 3), 40), kEverything).size() == 3 * 40);
}

TEST(equal_points_make_a_valid_index) {
  const Bytes bytes = AnnoyBuilder(Floats(100 * kDimensions, 1.0F), kDimensions).Build(2);
  Open(bytes, 100).Validate();
  CHECK(Search(Open(bytes, 100), kEverything).size() == 200);
}

TEST(the_search_ends_with_the_leaf_that_reaches_search_k) {
  const auto found = Search(Open(Build(500, 4), 500), 20);
  CHECK(found.size() >= 20 && found.size() < 20 + kDimensions + 2);
}

TEST(a_near_point_is_among_the_first_candidates) {
  std::mt19937 random(5);
  const Floats points = RandomFloats(random, 1000 * kDimensions);
  const Bytes bytes = AnnoyBuilder(points, kDimensions).Build(5);
  for (std::size_t item = 0; item < 1000; ++item) {
    std::vector<std::int32_t> found;
    Open(bytes, 1000).Search(points.data() + item * kDimensions, 40, &found);
    CHECK(std::find(found.begin(), found.end(), static_cast<std::int32_t>(item)) != found.end());
  }
}

TEST(bytes_at_an_odd_address_are_read) {
  Bytes shifted = Build(40, 2);
  const auto expected = Search(Open(shifted, 40), kEverything);
  shifted.insert(shifted.begin(), 0);
  const AnnoyIndex index(shifted.data() + 1, static_cast<std::int64_t>(shifted.size() - 1), kDimensions, 40);
  index.Validate();
  CHECK(Search(index, kEverything) == expected);
}

TEST(a_truncated_index_is_refused) {
  const Bytes whole = Build(40, 2);
  for (std::size_t size = 1; size < whole.size(); ++size) {
    const Bytes bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    Search(Open(bytes, 40), 100);
    // Without its last copied root an index is whole again, as long as a root is left.
    if (size % kNode != 0) CHECK_SAYS(Refusal(bytes, 40), "no whole number of nodes");
    if (size <= 40 * kNode && size % kNode == 0) CHECK_SAYS(Refusal(bytes, 40), "no root is left");
  }
}

TEST(an_index_of_another_store_is_refused) {
  CHECK_SAYS(Refusal(Build(40, 2), 41), "roots of 'index' hold 40 items and the store 41");
  CHECK_SAYS(Refusal(Build(40, 2), 39), "roots of 'index' hold 40 items and the store 39");
}

TEST(no_root_is_refused) {
  Bytes bytes = Build(40, 2);
  Write(&bytes, LastRoot(bytes), 0, 0);
  CHECK_SAYS(Refusal(bytes, 40), "roots of 'index' hold 0 items");
}

TEST(negative_descendants_are_refused) {
  Bytes bytes = Build(40, 2);
  Write(&bytes, FirstLeaf(), 0, -1);
  CHECK_SAYS(Refusal(bytes, 40), "node 40 of 'index' has -1 descendants");
}

TEST(a_leaf_that_holds_no_item_is_refused) {
  for (const std::int32_t child : {-1, 40, 41, 1 << 30}) {
    Bytes bytes = Build(40, 2);
    Write(&bytes, FirstLeaf(), 8, child);
    CHECK_SAYS(Refusal(bytes, 40), "points to " + std::to_string(child) + ", which is no item");
  }
}

TEST(a_split_that_points_outside_or_to_itself_or_later_is_refused) {
  const Bytes whole = Build(40, 2);
  const auto root = static_cast<std::int32_t>(LastRoot(whole));
  for (const std::int32_t child : {-5, root, root + 1, 0x7FFFFFFF}) {
    Bytes bytes = whole;
    Write(&bytes, LastRoot(bytes), 12, child);
    CHECK_SAYS(Refusal(bytes, 40), "points to " + std::to_string(child) + ", which is no earlier node");
  }
}

// Both children of each split are the split before: 2^200 ways lead to an empty leaf.
TEST(a_search_among_endless_ways_ends) {
  Bytes bytes = Build(40, 1);
  bytes.resize(40 * kNode);
  for (std::int32_t node = 40; node < 240; ++node) {
    bytes.resize(bytes.size() + kNode);
    const auto at = static_cast<std::size_t>(node);
    Write(&bytes, at, 0, node == 40 ? 0 : 40);
    Write(&bytes, at, 8, node - 1);
    Write(&bytes, at, 12, node - 1);
  }
  Open(bytes, 40).Validate();
  CHECK(Search(Open(bytes, 40), 1000).empty());
}

TEST(nan_planes_do_no_harm) {
  Bytes bytes = Build(500, 3);
  for (std::size_t node = 500; node <= LastRoot(bytes); ++node) Write(&bytes, node, 4, 0x7FC00000);
  CHECK(Search(Open(bytes, 500), 1000).size() >= 1000);
}

// The search must stay inside the bytes and end even where validation would have refused them.
TEST(thousands_of_damaged_indexes_do_no_harm) {
  const Bytes whole = Build(60, 3);
  std::mt19937 random(6);
  std::uniform_int_distribution<std::size_t> place(0, whole.size() - 1);
  std::uniform_int_distribution<int> value(0, 255);
  for (int round = 0; round < 5000; ++round) {
    Bytes bytes = whole;
    const int flips = 1 + round % 40;
    for (int i = 0; i < flips; ++i) bytes[place(random)] = static_cast<std::uint8_t>(value(random));
    if (round % 5 == 0) bytes.resize(place(random));
    if (round % 7 == 0) {  // aim at the pointers: the damage that matters most
      for (std::size_t node = 0; node + 1 < bytes.size() / kNode; ++node) Write(&bytes, node, 12, value(random) - 100);
    }
    bytes.shrink_to_fit();  // so that a sanitizer sees the end
    Refusal(bytes, 60);
    for (const std::int32_t item : Search(Open(bytes, 60), 200)) CHECK(item >= 0 && item < 60);
  }
}

}  // namespace
}  // namespace onnx_memo::testing
