// MemoRows' core against its definition, and what it refuses.
#include <algorithm>
#include <cmath>
#include <limits>

#include "check.h"
#include "memo_rows.h"
#include "naive.h"

namespace onnx_memo::testing {
namespace {

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr std::uint16_t kOne = 0x3C00, kHalf = 0x3800, kQuarter = 0x3400, kHalfNan = 0x7E00, kHalfInfinity = 0x7C00;

struct Answer {
  Integers rows;
  Integers stored_rows;
  bool hit;

  bool operator==(const Answer& other) const {
    return rows == other.rows && stored_rows == other.stored_rows && hit == other.hit;
  }
};

const Answer kNoHit = {{}, {}, false};

struct Request {
  Integers entry;
  Integers length;
  std::int64_t padded_length;
  std::int64_t width;
  Floats states;
  Halves stored;
  Halves influence;
  Integers offsets;
  Integers squares;
  RowsLimits limits;

  Answer Run() const {
    const std::int64_t rows = width == 0 ? 9 : static_cast<std::int64_t>(stored.size()) / width;
    const auto batch = static_cast<std::int64_t>(entry.size());
    RowsJob job({states.data(), {batch, padded_length, width}}, Vector(entry), Vector(length),
                {Matrix(stored, rows, width), Vector(influence), Vector(offsets), Vector(squares)}, limits);
    for (std::size_t task = 0; task < job.tasks(); ++task) job.Run(task);
    Answer answer{Integers(Size(job.count())), Integers(Size(job.count())), job.hit()};
    job.Write(answer.rows.data(), answer.stored_rows.data());
    return answer;
  }

  std::string Refusal() const {
    return Message<InvalidArgument>([this] { Run(); });
  }
};

float NaiveChange(const Request& request, std::int64_t b, std::int64_t t) {
  const std::int64_t state = (b * request.padded_length + t) * request.width;
  const std::int64_t stored = (request.offsets[Size(request.entry[Size(b)])] + t) * request.width;
  double difference = 0;
  double norm = 0;
  for (std::int64_t i = 0; i < request.width; ++i) {
    const auto x = static_cast<double>(NaiveHalf(request.stored[Size(stored + i)]));
    difference += std::pow(static_cast<double>(request.states[Size(state + i)]) - x, 2);
    norm += x * x;
  }
  return difference == 0 ? 0 : static_cast<float>(std::sqrt(difference) / std::sqrt(norm));
}

// Whether each token runs.
std::vector<bool> NaiveRuns(const Request& request, std::int64_t b) {
  const std::int64_t n = request.length[Size(b)];
  const std::int64_t e = request.entry[Size(b)];
  std::vector<bool> runs(Size(n), true);
  if (e < 0) return runs;
  std::vector<bool> changed;
  Floats scores(Size(n));
  for (std::int64_t j = 0; j < n; ++j) {
    const float change = NaiveChange(request, b, j);
    changed.push_back(!(change <= request.limits.epsilon));
    if (!changed.back()) continue;
    for (std::int64_t t = 0; t < n; ++t) {
      const float influence = NaiveHalf(request.influence[Size(request.squares[Size(e)] + j * n + t)]);
      scores[Size(t)] += influence * (std::isnan(change) ? 8.0F : std::min(change, 8.0F));
    }
  }
  float sum = 0;
  for (std::int64_t round = 0; round < n; ++round) {
    std::int64_t least = -1;
    for (std::int64_t t = 0; t < n; ++t) {
      if (changed[Size(t)] || !runs[Size(t)]) continue;
      float& score = scores[Size(t)];
      if (std::isnan(score)) score = kInfinity;
      if (least < 0 || score < scores[Size(least)]) least = t;
    }
    if (least < 0 || !((sum += scores[Size(least)]) <= request.limits.bound * static_cast<float>(n))) break;
    runs[Size(least)] = false;
  }
  return runs;
}

Answer Naive(const Request& request) {
  const auto batch = static_cast<std::int64_t>(request.entry.size());
  Answer answer{{}, {}, request.limits.bound >= 0 && batch > 0 && (batch > 1 || request.entry[0] >= 0)};
  for (std::int64_t b = 0; b < batch; ++b) {
    if (request.length[Size(b)] < 0) return kNoHit;
    const std::vector<bool> runs = NaiveRuns(request, b);
    for (std::int64_t t = 0; t < static_cast<std::int64_t>(runs.size()); ++t) {
      if (!runs[Size(t)]) continue;
      const std::int64_t e = request.entry[Size(b)];
      answer.rows.push_back(b * request.padded_length + t);
      answer.stored_rows.push_back(e < 0 ? 0 : request.offsets[Size(e)] + t);
    }
  }
  const double most = static_cast<double>(request.limits.limit) * static_cast<double>(batch * request.padded_length);
  return answer.hit && static_cast<double>(answer.rows.size()) <= most ? answer : kNoHit;
}

// A batch over two entries of n and 1 tokens; each row differs from the stored one with this probability, by noise.
Request TwoEntries(std::mt19937& random, std::int64_t n, std::int64_t padded, std::int64_t width, double changing,
                   const RowsLimits& limits) {
  std::bernoulli_distribution changes(changing);
  std::uniform_int_distribution<int> magnitude(0, 0x2E00);  // up to 0.09
  std::uniform_real_distribution<float> noise(-2.0F, 2.0F);
  Request request{{0, -1, 1, 0},
                  {n, n, 1, n},
                  padded,
                  width,
                  Floats(Size(4 * padded * width), kNan),
                  RandomHalves(random, Size((n + 1) * width)),
                  Halves(Size(n * n + 1)),
                  {1, 0},
                  {1, 0},
                  limits};
  for (auto& half : request.influence) half = static_cast<std::uint16_t>(magnitude(random));
  for (std::int64_t b = 0; b < 4; ++b) {
    const std::int64_t e = request.entry[Size(b)];
    for (std::int64_t t = 0; e >= 0 && t < request.length[Size(b)]; ++t) {
      const float scale = changes(random) ? noise(random) : 1e-4F;
      for (std::int64_t i = 0; i < width; ++i) {
        const float x = NaiveHalf(request.stored[Size((request.offsets[Size(e)] + t) * width + i)]);
        request.states[Size((b * padded + t) * width + i)] = x + scale * noise(random);
      }
    }
  }
  return request;
}

TEST(rows_are_chosen_by_the_definition) {
  std::mt19937 random(1);
  int hits = 0;
  for (const std::int64_t n : {1, 2, 7, 33, 64}) {
    for (const std::int64_t width : {1, 5, 48, 130}) {
      for (const double changing : {0.0, 0.1, 0.5, 1.0}) {
        for (const float bound : {0.0F, 0.02F, 0.2F, 1e9F}) {
          for (const float limit : {0.4F, 2.0F}) {
            const Request request = TwoEntries(random, n, n + 2, width, changing, {0.01F, bound, limit});
            const Answer answer = request.Run();
            CHECK(answer == Naive(request));
            hits += answer.hit;
          }
        }
      }
    }
  }
  CHECK(hits > 300 && hits < 600);
}

TEST(rows_of_one_sequence_are_chosen_by_the_definition) {
  std::mt19937 random(2);
  for (const std::int64_t n : {1, 16, 128, 200}) {
    for (const float bound : {0.0F, 0.05F, 0.5F}) {
      Request request = TwoEntries(random, n, n, 96, 0.1, {0.01F, bound, 0.8F});
      request.entry.resize(1);
      request.length.resize(1);
      request.states.resize(Size(n * 96));
      CHECK(request.Run() == Naive(request));
    }
  }
}

// One sequence of width 1 whose rows are all stored as 1; its states and J are given.
Request Small(const Floats& states, const Halves& influence, const RowsLimits& limits) {
  const auto n = static_cast<std::int64_t>(states.size());
  return {{0}, {n}, n, 1, states, Halves(states.size(), kOne), influence, {0}, {0}, limits};
}

TEST(rows_that_are_equal_to_the_stored_ones_do_not_run) {
  CHECK((Small({1, 1}, Halves(4, kOne), {0, 0, 0}).Run() == Answer{{}, {}, true}));
  Request zero = Small({0, 1}, Halves(4, kOne), {0, 0, 1});
  zero.stored[0] = 0;
  CHECK((zero.Run() == Answer{{}, {}, true}));
}

TEST(a_change_counts_up_to_8_and_from_zero_it_is_infinite) {
  // The other row's score is 8 / 4 = 2, and 2 tokens times the bound are 2 or less.
  const Halves influence = {kOne, kQuarter, kOne, kOne};
  for (const float state : {1000.0F, kInfinity, kNan, 9.0F}) {
    CHECK((Small({state, 1}, influence, {0, 1.0F, 1}).Run() == Answer{{0}, {0}, true}));
    CHECK((Small({state, 1}, influence, {0, 0.999F, 1}).Run() == Answer{{0, 1}, {0, 1}, true}));
  }
  Request from_zero = Small({1, 1}, influence, {1e9F, 1.0F, 1});
  from_zero.stored[0] = 0;
  CHECK((from_zero.Run() == Answer{{0}, {0}, true}));
}

TEST(a_nan_is_a_change_at_any_epsilon_but_for_none) {
  CHECK((Small({kNan, 1}, Halves(4, 0), {kInfinity, 0, 1}).Run() == Answer{{0}, {0}, true}));
  CHECK((Small({1, 1}, Halves(4, 0), {kNan, 0, 1}).Run() == Answer{{0, 1}, {0, 1}, true}));
  CHECK((Small({1, 1}, Halves(4, 0), {-1, 0, 1}).Run() == Answer{{0, 1}, {0, 1}, true}));
  CHECK((Small({2, 1}, Halves(4, 0), {1, 0, 1}).Run() == Answer{{}, {}, true}));  // just at epsilon
}

TEST(of_equal_scores_the_later_row_runs) {
  // Token 0 changes by 1 and passes 0.5 on to each of the others; a sum of 1 may be left out.
  const Halves influence = {0, kHalf, kHalf, kHalf, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  CHECK((Small({2, 1, 1, 1}, influence, {0, 0.25F, 1}).Run() == Answer{{0, 3}, {0, 3}, true}));
  CHECK((Small({2, 1, 1, 1}, influence, {0, 0.125F, 1}).Run() == Answer{{0, 2, 3}, {0, 2, 3}, true}));
  CHECK((Small({2, 1, 1, 1}, influence, {0, 0.124F, 1}).Run() == Answer{{0, 1, 2, 3}, {0, 1, 2, 3}, true}));
  CHECK((Small({2, 1, 1, 1}, influence, {0, 0.375F, 1}).Run() == Answer{{0}, {0}, true}));
}

TEST(rows_of_score_zero_are_left_out_at_bound_zero) {
  const Halves influence = {kOne, 0, kOne, 0, 0, 0, 0, 0, 0};
  CHECK((Small({2, 1, 1}, influence, {0, 0, 1}).Run() == Answer{{0, 2}, {0, 2}, true}));
}

TEST(scores_of_nan_or_infinity_are_left_out_last) {
  for (const std::uint16_t influence : {kHalfNan, kHalfInfinity}) {
    const Halves numbers = {0, influence, kHalf, 0, 0, 0, 0, 0, 0};
    CHECK((Small({2, 1, 1}, numbers, {0, 1.0F, 1}).Run() == Answer{{0, 1}, {0, 1}, true}));
    CHECK((Small({2, 1, 1}, numbers, {0, kInfinity, 1}).Run() == Answer{{0}, {0}, true}));
  }
}

TEST(a_score_below_zero_makes_room_for_others) {
  const Halves numbers = {0, kHalf | 0x8000, kOne, 0, 0, 0, 0, 0, 0};
  CHECK((Small({2, 1, 1}, numbers, {0, 0.2F, 1}).Run() == Answer{{0}, {0}, true}));
  CHECK((Small({2, 1, 1}, numbers, {0, 0.1F, 1}).Run() == Answer{{0, 2}, {0, 2}, true}));
}

TEST(zeros_of_both_signs_are_equal_scores) {
  const Halves numbers = {0, 0, 0x8000, kHalf, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  CHECK((Small({2, 1, 1, 1}, numbers, {0, 0, 1}).Run() == Answer{{0, 3}, {0, 3}, true}));
}

TEST(a_bound_that_is_negative_or_nan_never_hits) {
  for (const float bound : {-1e-9F, -1.0F, -kInfinity, kNan}) CHECK(Small({1}, {0}, {0, bound, 1}).Run() == kNoHit);
  CHECK((Small({1}, {0}, {0, -0.0F, 1}).Run() == Answer{{}, {}, true}));
}

TEST(more_rows_than_the_limit_never_hit) {
  const Floats states = {2, 2, 1, 1};
  CHECK((Small(states, Halves(16, 0), {0, 0, 0.5F}).Run() == Answer{{0, 1}, {0, 1}, true}));
  for (const float limit : {0.49F, 0.0F, -1.0F, kNan})
    CHECK(Small(states, Halves(16, 0), {0, 0, limit}).Run() == kNoHit);
  CHECK(Small(states, Halves(16, kOne), {0, 0, 0.5F}).Run() == kNoHit);  // by their influence
  CHECK((Small({1, 1}, Halves(4, 0), {0, 0, 0}).Run() == Answer{{}, {}, true}));
}

TEST(the_limit_counts_the_padding_and_the_whole_batch) {
  Request request{{0, -1, 0},      {2, 2, 2},    4,   1,   Floats(12, 1.0F),
                  Halves(2, kOne), Halves(4, 0), {0}, {0}, {0, 0, 0.25F}};
  request.states[8] = 2;
  CHECK((request.Run() == Answer{{4, 5, 8}, {0, 0, 0}, true}));
  request.states[9] = 2;
  CHECK(request.Run() == kNoHit);
  request.limits.limit = 0.1F;  // known before any state is read
  CHECK(request.Run() == kNoHit);
}

TEST(an_irregular_mask_and_a_lone_sequence_without_entry_never_hit) {
  CHECK((Request{{-1}, {1}, 1, 1, {1}, {}, {}, {}, {}, {0, 1, 1}}).Run() == kNoHit);
  CHECK((Request{{-1}, {-1}, 1, 1, {1}, {}, {}, {}, {}, {0, 1, 1}}).Run() == kNoHit);
  CHECK((Request{{0, 0}, {1, -1}, 1, 1, {1, 1}, {kOne}, {0}, {0}, {0}, {0, 1, 1}}).Run() == kNoHit);
  CHECK((Request{{-1, -1}, {1, 1}, 1, 1, {1, 1}, {}, {}, {}, {}, {0, 1, 1}}.Run() == Answer{{0, 1}, {0, 0}, true}));
}

TEST(batches_of_nothing) {
  CHECK((Request{{}, {}, 3, 2, {}, {}, {}, {}, {}, {0, 1, 1}}).Run() == kNoHit);
  CHECK((Request{{0}, {0}, 0, 2, {}, {}, {}, {0}, {0}, {0, 1, 1}}.Run() == Answer{{}, {}, true}));
  CHECK((Request{{0}, {2}, 3, 0, {}, {}, Halves(4, kOne), {0}, {0}, {0, 1, 1}}.Run() == Answer{{}, {}, true}));
  CHECK((Request{{0}, {0}, 2, 1, {1, 1}, {}, {}, {0}, {0}, {0, kInfinity, 1}}.Run() == Answer{{}, {}, true}));
}

TEST(rows_refuse_entries_and_lengths) {
  Request request = Small({1, 1}, Halves(4), {0, 0, 1});
  for (const std::int64_t entry : {std::int64_t{1}, std::int64_t{-2}, kHuge, -kHuge - 1}) {
    request.entry = {entry};
    CHECK_SAYS(request.Refusal(), "entry " + std::to_string(entry) + " does not exist, the store holds 1");
  }
  request.entry = {0};
  for (const std::int64_t length : {std::int64_t{3}, kHuge}) {
    request.length = {length};
    CHECK_SAYS(request.Refusal(), "tokens and is padded to 2");
  }
}

TEST(rows_refuse_a_damaged_store) {
  for (const std::int64_t at : {std::int64_t{-1}, std::int64_t{1}, std::int64_t{5}, kHuge, -kHuge - 1}) {
    Request request = Small({1, 1}, Halves(4), {0, 0, 1});
    request.offsets = {at};
    CHECK_SAYS(request.Refusal(),
               "entry 0 owns 2 of 'stored' from " + std::to_string(at) + " on, but that ends after 2");
    request.offsets = {0};
    request.squares = {at};
    CHECK_SAYS(request.Refusal(),
               "entry 0 owns 4 of 'influence' from " + std::to_string(at) + " on, but that ends after 4");
    request.limits.bound = -1;  // also where there could be no hit
    CHECK_SAYS(request.Refusal(), "'influence'");
  }
  Request request = Small({1, 1}, Halves(4), {0, 0, 1});
  request.influence.pop_back();
  CHECK_SAYS(request.Refusal(), "owns 4 of 'influence' from 0 on, but that ends after 3");
}

TEST(rows_refuse_a_length_whose_square_overflows) {
  const Integers entry = {0};
  const Integers length = {kHuge};
  const Integers offsets = {0};
  const auto run = [&] {
    RowsJob({nullptr, {1, kHuge, 0}}, Vector(entry), Vector(length),
            {{nullptr, {kHuge, 0}}, {nullptr, {0}}, Vector(offsets), Vector(offsets)}, {0, 0, 1});
  };
  CHECK_SAYS(Message<InvalidArgument>(run), "too large");
}

TEST(rows_refuse_shapes_that_do_not_fit) {
  Request request = Small({1, 1}, Halves(4), {0, 0, 1});
  request.length = {2, 2};
  CHECK_SAYS(request.Refusal(), "'entry' holds 1 rows and 'length' 2");
  request.length = {2};
  request.squares = {0, 0};
  CHECK_SAYS(request.Refusal(), "'offsets' holds 1 entries and 'squares' 2");
  const Integers one = {0};
  const auto run = [&](std::int64_t batch, std::int64_t width) {
    return Message<InvalidArgument>([&] {
      RowsJob({nullptr, {batch, 1, width}}, Vector(one), Vector(one),
              {{nullptr, {0, 3}}, {nullptr, {0}}, Vector(one), Vector(one)}, {0, 0, 1});
    });
  };
  CHECK_SAYS(run(2, 3), "'states' holds 2 sequences and 'entry' 1");
  CHECK_SAYS(run(1, 4), "'states' is 4 wide and 'stored' 3");
}

}  // namespace
}  // namespace onnx_memo::testing
