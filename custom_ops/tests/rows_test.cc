// MemoRows' core against its definition, and what it refuses.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "kernels/memo_rows.h"
#include "tests/check.h"
#include "tests/naive.h"

namespace onnx_memo::testing {
namespace {

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr std::uint16_t kOne = 0x3C00, kHalf = 0x3800, kQuarter = 0x3400, kHalfNan = 0x7E00, kHalfInfinity = 0x7C00;

struct Answer {
  Integers rows;
  Integers stored_rows;
  bool hit;            // all sequences
  Floats change = {};  // not compared, like `predicted`: sums are taken in another order
  Floats predicted = {};
  std::vector<bool> hits = {};  // of each sequence

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
    Answer answer{Integers(Size(job.count())), Integers(Size(job.count())), job.all_hit()};
    const auto hits = std::make_unique<bool[]>(Size(batch));
    answer.change.assign(Size(batch * padded_length), kNan);
    answer.predicted = answer.change;
    job.Write(answer.rows.data(), answer.stored_rows.data(), hits.get(), {answer.change.data(), {batch, padded_length}},
              {answer.predicted.data(), {batch, padded_length}});
    answer.hits.assign(hits.get(), hits.get() + batch);
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

// Whether each token of a sequence runs; also writes its change and predicted change.
std::vector<bool> NaiveRuns(const Request& request, std::int64_t b, float* changes, float* predicted) {
  const std::int64_t n = request.length[Size(b)];
  const std::int64_t e = request.entry[Size(b)];
  std::vector<bool> runs(Size(n));
  for (std::int64_t j = 0; j < n; ++j) {
    const float change = NaiveChange(request, b, j);
    runs[Size(j)] = !(change <= request.limits.epsilon);
    if (!runs[Size(j)]) continue;
    changes[j] = std::isnan(change) ? 8.0F : std::min(change, 8.0F);
    for (std::int64_t t = 0; t < n; ++t) {
      predicted[t] += changes[j] * NaiveHalf(request.influence[Size(request.squares[Size(e)] + j * n + t)]);
    }
  }
  for (std::int64_t t = 0; t < n; ++t) runs[Size(t)] = runs[Size(t)] || !(predicted[t] <= request.limits.bound);
  return runs;
}

Answer Naive(const Request& request) {
  const auto batch = static_cast<std::int64_t>(request.entry.size());
  const std::int64_t padded = request.padded_length;
  const Floats zeros(Size(batch * padded));
  Answer answer{{}, {}, batch > 0, zeros, zeros, std::vector<bool>(Size(batch))};
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t n = request.length[Size(b)];
    const std::int64_t e = request.entry[Size(b)];
    Floats change(Size(padded)), predicted(Size(padded));
    std::vector<bool> runs;
    if (n > 0 && e >= 0) runs = NaiveRuns(request, b, change.data(), predicted.data());
    const auto count = static_cast<double>(std::count(runs.begin(), runs.end(), true));
    const bool few = count <= static_cast<double>(request.limits.limit) * static_cast<double>(n);
    answer.hits[Size(b)] = n > 0 && e >= 0 && request.limits.bound >= 0 && few;
    answer.hit = answer.hit && answer.hits[Size(b)];
    if (!answer.hits[Size(b)]) continue;
    std::copy(change.begin(), change.end(), answer.change.begin() + b * padded);
    std::copy(predicted.begin(), predicted.end(), answer.predicted.begin() + b * padded);
    for (std::int64_t t = 0; t < n; ++t) {
      if (!runs[Size(t)]) continue;
      answer.rows.push_back(b * padded + t);
      answer.stored_rows.push_back(request.offsets[Size(e)] + t);
    }
  }
  return answer;
}

bool Near(const Floats& have, const Floats& want) {
  if (have.size() != want.size()) return false;
  for (std::size_t i = 0; i < have.size(); ++i) {
    if (!(std::abs(have[i] - want[i]) <= 1e-4F * (1 + want[i]))) return false;
  }
  return true;
}

bool AsDefined(const Request& request, const Answer& answer) {
  const Answer naive = Naive(request);
  return answer == naive && answer.hits == naive.hits && Near(answer.change, naive.change) &&
         Near(answer.predicted, naive.predicted);
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
        for (const float bound : {0.0F, 0.3F, 2.0F, 1e9F}) {
          for (const float limit : {0.4F, 2.0F}) {
            const Request request = TwoEntries(random, n, n + 2, width, changing, {0.01F, bound, limit});
            const Answer answer = request.Run();
            CHECK(AsDefined(request, answer));
            hits += static_cast<int>(std::count(answer.hits.begin(), answer.hits.end(), true));
          }
        }
      }
    }
  }
  CHECK(hits > 900 && hits < 1800);  // of 1,920 sequences that have an entry
}

TEST(rows_of_one_sequence_are_chosen_by_the_definition) {
  std::mt19937 random(2);
  for (const std::int64_t n : {1, 16, 128, 200}) {
    for (const float bound : {0.0F, 0.5F, 3.0F}) {
      Request request = TwoEntries(random, n, n, 96, 0.1, {0.01F, bound, 0.8F});
      request.entry.resize(1);
      request.length.resize(1);
      request.states.resize(Size(n * 96));
      CHECK(AsDefined(request, request.Run()));
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
  const Halves influence = {kOne, kQuarter, kOne, kOne};  // 8 / 4 = 2 is predicted for the other row
  for (const float state : {1000.0F, kInfinity, kNan, 9.0F}) {
    const Answer answer = Small({state, 1}, influence, {0, 2.0F, 1}).Run();
    CHECK((answer == Answer{{0}, {0}, true}));
    CHECK((answer.change == Floats{8, 0} && answer.predicted == Floats{8, 2}));
    CHECK((Small({state, 1}, influence, {0, 1.999F, 1}).Run() == Answer{{0, 1}, {0, 1}, true}));
  }
  Request from_zero = Small({1, 1}, influence, {1e9F, 2.0F, 1});
  from_zero.stored[0] = 0;
  CHECK((from_zero.Run() == Answer{{0}, {0}, true}));
}

TEST(a_nan_is_a_change_at_any_epsilon_but_for_none) {
  CHECK((Small({kNan, 1}, Halves(4, 0), {kInfinity, 0, 1}).Run() == Answer{{0}, {0}, true}));
  CHECK((Small({1, 1}, Halves(4, 0), {kNan, 0, 1}).Run() == Answer{{0, 1}, {0, 1}, true}));
  CHECK((Small({1, 1}, Halves(4, 0), {-1, 0, 1}).Run() == Answer{{0, 1}, {0, 1}, true}));
  CHECK((Small({2, 1}, Halves(4, 0), {1, 0, 1}).Run() == Answer{{}, {}, true}));  // just at epsilon
}

TEST(rows_run_for_which_more_than_the_bound_is_predicted) {
  // Tokens 0 and 1 change by 1 and 2; together they move the others by 0.25 + 0.5, 0.5 + 0 and 0 + 2.
  const Halves influence = {kOne, 0, kQuarter, kHalf, 0, 0, kOne, kQuarter, 0, kOne, 0, 0, 0,
                            0,    0, 0,        0,     0, 0, 0,    0,        0, 0,    0, 0};
  const Floats states = {2, 3, 1, 1, 1};
  const Answer answer = Small(states, influence, {0, 0.75F, 1}).Run();
  CHECK((answer == Answer{{0, 1, 4}, {0, 1, 4}, true}));
  CHECK((answer.change == Floats{1, 2, 0, 0, 0} && answer.predicted == Floats{1, 2, 0.75F, 0.5F, 2}));
  CHECK((Small(states, influence, {0, 0.74F, 1}).Run() == Answer{{0, 1, 2, 4}, {0, 1, 2, 4}, true}));
  CHECK((Small(states, influence, {0, 0.49F, 1}).Run() == Answer{{0, 1, 2, 3, 4}, {0, 1, 2, 3, 4}, true}));
  CHECK((Small(states, influence, {0, 2.0F, 1}).Run() == Answer{{0, 1}, {0, 1}, true}));
}

TEST(rows_for_which_nothing_is_predicted_do_not_run_at_bound_zero) {
  const Halves influence = {kOne, 0, kOne, 0, 0, 0, 0, 0, 0};
  CHECK((Small({2, 1, 1}, influence, {0, 0, 1}).Run() == Answer{{0, 2}, {0, 2}, true}));
  const Halves negative = {kOne, 0x8000, kHalf | 0x8000, 0, 0, 0, 0, 0, 0};
  CHECK((Small({2, 1, 1}, negative, {0, 0, 1}).Run() == Answer{{0}, {0}, true}));
}

TEST(a_predicted_nan_runs_and_an_infinity_within_no_other_bound) {
  const Halves nan = {0, kHalfNan, kHalf, 0, 0, 0, 0, 0, 0};
  CHECK((Small({2, 1, 1}, nan, {0, 1.0F, 1}).Run() == Answer{{0, 1}, {0, 1}, true}));
  CHECK((Small({2, 1, 1}, nan, {0, kInfinity, 1}).Run() == Answer{{0, 1}, {0, 1}, true}));
  const Halves infinite = {0, kHalfInfinity, kHalf, 0, 0, 0, 0, 0, 0};
  CHECK((Small({2, 1, 1}, infinite, {0, 1.0F, 1}).Run() == Answer{{0, 1}, {0, 1}, true}));
  CHECK((Small({2, 1, 1}, infinite, {0, kInfinity, 1}).Run() == Answer{{0}, {0}, true}));
}

TEST(an_influence_of_what_did_not_change_does_not_count) {
  const Answer answer = Small({2, 1}, {0, 0, kHalfNan, kHalfInfinity}, {0, 0, 1}).Run();
  CHECK((answer == Answer{{0}, {0}, true}));
  CHECK((answer.predicted == Floats{0, 0}));
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

TEST(a_sequence_hits_or_not_whatever_stands_beside_it) {
  // Two of three tokens run, one of three, none; one has no entry, one is all padding, and one has an odd mask.
  Request request{{0, 0, 0, -1, 0, 0}, {3, 3, 3, 3, 0, -1}, 4,   1,   Floats(24, 1.0F),
                  Halves(3, kOne),     Halves(9, 0),        {0}, {0}, {0, 0, 0.5F}};
  request.states[0] = request.states[1] = request.states[6] = 2;
  const Answer answer = request.Run();
  CHECK((answer == Answer{{6}, {2}, false}));
  CHECK((answer.hits == std::vector<bool>{false, true, true, false, false, false}));
  CHECK(AsDefined(request, answer));
  request.limits.limit = 0.7F;
  CHECK((request.Run().rows == Integers{0, 1, 6}));
  request.entry = {0, 0};
  request.length = {3, 3};
  request.states.resize(8);
  CHECK((request.Run() == Answer{{0, 1, 6}, {0, 1, 2}, true}));
}

TEST(a_sequence_without_entry_or_with_an_irregular_mask_never_hits) {
  CHECK((Request{{-1}, {1}, 1, 1, {1}, {}, {}, {}, {}, {0, 1, 1}}).Run() == kNoHit);
  CHECK((Request{{-1}, {-1}, 1, 1, {1}, {}, {}, {}, {}, {0, 1, 1}}).Run() == kNoHit);
  CHECK((Request{{0}, {-1}, 1, 1, {1}, {kOne}, {0}, {0}, {0}, {0, 1, 1}}).Run() == kNoHit);
  CHECK((Request{{-1, -1}, {1, 1}, 1, 1, {1, 1}, {}, {}, {}, {}, {0, 1, 1}}.Run() == kNoHit));
}

TEST(batches_of_nothing) {
  CHECK((Request{{}, {}, 3, 2, {}, {}, {}, {}, {}, {0, 1, 1}}).Run() == kNoHit);
  CHECK((Request{{0}, {0}, 0, 2, {}, {}, {}, {0}, {0}, {0, 1, 1}}).Run() == kNoHit);
  CHECK((Request{{0}, {2}, 3, 0, {}, {}, Halves(4, kOne), {0}, {0}, {0, 1, 1}}.Run() == Answer{{}, {}, true}));
}

TEST(a_sequence_that_is_all_padding_never_hits) {
  CHECK((Request{{0}, {0}, 2, 1, {1, 1}, {}, {}, {0}, {0}, {0, kInfinity, 1}}).Run() == kNoHit);
  CHECK((Request{{-1, -1}, {1, 0}, 1, 1, {1, 1}, {}, {}, {}, {}, {0, 1, 1}}).Run() == kNoHit);
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
