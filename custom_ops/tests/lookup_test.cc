// MemoLookup's core against a plain loop, and at the edges of its contract.
#include <cmath>
#include <limits>

#include "kernels/memo_lookup.h"
#include "tests/annoy_builder.h"
#include "tests/check.h"
#include "tests/naive.h"

namespace onnx_memo::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// keys[k, N], lengths[N] and the bytes of an index, empty unless built.
struct Store {
  std::size_t width;
  Floats keys;
  Integers lengths;
  std::vector<std::uint8_t> index;

  LookupStore View() const {
    const auto n = static_cast<std::int64_t>(lengths.size());
    return {Matrix(keys, static_cast<std::int64_t>(width), n), Vector(lengths), Vector(index)};
  }

  std::int64_t Nearest(const Floats& query, std::int64_t length, float threshold) const {
    return View().Nearest(query.data(), length, threshold);
  }
};

Store RandomStore(std::mt19937& random, std::size_t width, const Integers& lengths) {
  return {width, RandomFloats(random, width * lengths.size()), lengths, {}};
}

TEST(lookup_finds_what_a_plain_loop_finds) {
  std::mt19937 random(1);
  for (const std::size_t entries : {1U, 2U, 15U, 16U, 17U, 130U, 700U}) {
    Integers lengths;
    for (std::size_t i = 0; i < entries; ++i) lengths.push_back(static_cast<std::int64_t>(i / 9));
    for (const std::size_t width : {1U, 3U, 8U, 64U}) {
      const Store store = RandomStore(random, width, lengths);
      for (std::int64_t length = -1; length < 5; ++length) {
        const Floats query = RandomFloats(random, width);
        const float threshold = std::sqrt(static_cast<float>(width)) * 1.4F;
        CHECK(store.Nearest(query, length, threshold) ==
              NaiveLookup(query.data(), length, store.keys, lengths, width, threshold));
      }
    }
  }
}

TEST(lookup_with_an_index_finds_near_entries_of_the_same_length) {
  std::mt19937 random(2);
  Integers lengths(3000, 7);
  lengths.resize(3500, 8);
  Store store = RandomStore(random, 8, lengths);
  store.index = BuildStoreIndex(store.keys, 8, lengths, 10);
  store.View().ValidateIndex();
  for (std::int64_t entry = 0; entry < 3500; entry += 7) {
    Floats query(8);
    for (std::size_t i = 0; i < 8; ++i) query[i] = store.keys[i * 3500 + static_cast<std::size_t>(entry)] + 0.001F;
    CHECK(store.Nearest(query, lengths[static_cast<std::size_t>(entry)], 0.1F) == entry);
    CHECK(store.Nearest(query, 15 - lengths[static_cast<std::size_t>(entry)], 0.01F) == kMiss);
  }
}

TEST(the_smaller_of_two_equal_entries_is_taken) {
  const Store store{1, Floats(400, 2.0F), Integers(400, 5), {}};
  CHECK(store.Nearest({2.0F}, 5, 0.0F) == 0);
}

TEST(keys_without_numbers_are_all_equally_near) {
  const Store store{0, {}, {5, 7, 7}, {}};
  CHECK(store.Nearest({}, 7, 0.0F) == 1);
  CHECK(store.Nearest({}, 6, 0.0F) == kMiss);
  Store with_index = store;
  with_index.index = BuildStoreIndex({}, 0, store.lengths, 2);
  with_index.View().ValidateIndex();
  CHECK(with_index.Nearest({}, 7, 0.0F) == 1);
}

TEST(a_distance_equal_to_the_threshold_hits) {
  const Store store{2, {3.0F, 4.0F}, {5}, {}};
  CHECK(store.Nearest({0.0F, 0.0F}, 5, 5.0F) == 0);
  CHECK(store.Nearest({0.0F, 0.0F}, 5, 4.999F) == kMiss);
}

TEST(other_lengths_miss) {
  const Store store{1, {1.0F, 1.0F}, {5, 9}, {}};
  for (const std::int64_t length : {-1LL, 0LL, 4LL, 7LL, 10LL})
    CHECK(store.Nearest({1.0F}, length, kInfinity) == kMiss);
  CHECK(store.Nearest({1.0F}, std::numeric_limits<std::int64_t>::min(), kInfinity) == kMiss);
  CHECK(store.Nearest({1.0F}, std::numeric_limits<std::int64_t>::max(), kInfinity) == kMiss);
}

TEST(a_negative_length_misses_even_if_the_store_holds_it) {
  const Store store{1, {1.0F}, {-3}, {}};
  CHECK(store.Nearest({1.0F}, -3, kInfinity) == kMiss);
}

TEST(an_empty_store_misses) {
  const Store store{1, {}, {}, {}};
  CHECK(store.Nearest({1.0F}, 3, kInfinity) == kMiss);
}

TEST(nan_misses) {
  const Store store{1, {1.0F}, {5}, {}};
  CHECK(store.Nearest({kNan}, 5, kInfinity) == kMiss);
  CHECK(store.Nearest({1.0F}, 5, kNan) == kMiss);
  const Store broken{1, {kNan}, {5}, {}};
  CHECK(broken.Nearest({1.0F}, 5, kInfinity) == kMiss);
}

TEST(an_entry_with_nan_does_not_hide_the_others) {
  const Store store{1, {kNan, 1.0F, kNan}, {5, 5, 5}, {}};
  CHECK(store.Nearest({1.5F}, 5, 1.0F) == 1);
}

TEST(infinite_distances_hit_only_an_infinite_threshold) {
  const Store store{1, {1e30F}, {5}, {}};
  CHECK(store.Nearest({-1e30F}, 5, 1e30F) == kMiss);
  CHECK(store.Nearest({-1e30F}, 5, kInfinity) == 0);
}

TEST(negative_thresholds_miss) {
  const Store store{1, {1.0F}, {5}, {}};
  CHECK(store.Nearest({1.0F}, 5, -1e-30F) == kMiss);
  CHECK(store.Nearest({1.0F}, 5, -kInfinity) == kMiss);
  CHECK(store.Nearest({1.0F}, 5, 0.0F) == 0);
}

TEST(unsorted_lengths_never_give_an_entry_of_another_length) {
  std::mt19937 random(3);
  std::uniform_int_distribution<std::int64_t> any(0, 3);
  for (int round = 0; round < 300; ++round) {
    Integers lengths(50);
    for (auto& length : lengths) length = any(random);
    const Store store = RandomStore(random, 2, lengths);
    const std::int64_t entry = store.Nearest(RandomFloats(random, 2), 2, kInfinity);
    CHECK(entry == kMiss || lengths[static_cast<std::size_t>(entry)] == 2);
  }
}

TEST(shapes_that_do_not_fit_are_refused) {
  const Store store{2, {1, 2, 3, 4}, {5, 5}, {}};
  LookupStore view = store.View();
  view.lengths.dims[0] = 1;
  CHECK_SAYS(Message<InvalidArgument>([&] { view.CheckShapes(); }), "'keys' holds 2 entries and 'lengths' 1");
}

TEST(an_index_of_keys_of_any_width_is_refused_where_sizes_overflow) {
  constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
  const std::vector<std::uint8_t> index(24);
  for (const std::int64_t width : {kHuge, kHuge - 1, kHuge / 4, kHuge / 4 - 1, kHuge / 4 - 3, kHuge / 4 - 4}) {
    const LookupStore store{{nullptr, {width, 0}}, {nullptr, {0}}, Vector(index)};
    const std::string refusal = Message<InvalidArgument>([&] { store.ValidateIndex(); });
    CHECK(refusal.find("is too large") != std::string::npos ||
          refusal.find("no whole number of nodes") != std::string::npos);
  }
}

TEST(an_index_of_other_keys_is_refused) {
  std::mt19937 random(4);
  Store store = RandomStore(random, 4, Integers(100, 3));
  store.index = BuildStoreIndex(store.keys, 4, store.lengths, 2);
  store.View().ValidateIndex();
  store.lengths.pop_back();
  CHECK_SAYS(Message<InvalidArgument>([&] { store.View().ValidateIndex(); }), "the store 99 entries");
}

// Whatever the bytes, an answer is a miss or an entry that really is that near.
TEST(damaged_indexes_give_true_answers) {
  std::mt19937 random(5);
  Store store = RandomStore(random, 2, Integers(2100, 3));
  const auto whole = BuildStoreIndex(store.keys, 2, store.lengths, 3);
  std::uniform_int_distribution<std::size_t> place(0, whole.size() - 1);
  std::uniform_int_distribution<int> value(0, 255);
  for (int round = 0; round < 300; ++round) {
    store.index = whole;
    for (int i = 0; i < 3000; ++i) store.index[place(random)] = static_cast<std::uint8_t>(value(random));
    const Floats query = RandomFloats(random, 2);
    const std::int64_t entry = store.Nearest(query, 3, 0.5F);
    if (entry == kMiss) continue;
    const auto at = static_cast<std::size_t>(entry);
    CHECK(at < 2100 && std::hypot(query[0] - store.keys[at], query[1] - store.keys[2100 + at]) <= 0.5001F);
  }
}

}  // namespace
}  // namespace onnx_memo::testing
