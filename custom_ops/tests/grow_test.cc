// MemoGrow's core against its definition, and what it refuses.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/memo_grow.h"
#include "tests/check.h"
#include "tests/naive.h"

namespace onnx_memo::testing {
namespace {

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr std::uint16_t kOne = 0x3C00, kTwo = 0x4000, kHalf = 0x3800, kHalfNan = 0x7E00;

struct Answer {
  Floats states;
  Integers rows;
  Integers stored_rows;
  Floats predicted;
};

struct Request {
  Integers rows;
  Integers entry;
  Integers length;
  std::int64_t padded_length;
  std::int64_t width;
  Floats states;
  Floats change;
  Floats predicted;
  Halves stored;
  Halves influence;
  Halves rollout;
  Integers offsets;
  Integers squares;
  Floats correction;
  float bound;

  std::int64_t batch() const { return static_cast<std::int64_t>(entry.size()); }

  Answer Run() const {
    const std::int64_t count = width == 0 ? 9 : static_cast<std::int64_t>(stored.size()) / width;
    Answer answer;
    answer.predicted.assign(predicted.size(), kNan);
    const std::array<std::int64_t, 2> places = {batch(), padded_length};
    const Ragged ragged(Vector(rows), Vector(entry), Vector(length), padded_length,
                        static_cast<std::int64_t>(offsets.size()));
    GrowJob job({Matrix(states, static_cast<std::int64_t>(rows.size()), width),
                 {change.data(), places},
                 {predicted.data(), places},
                 Matrix(correction, width, width),
                 bound},
                ragged,
                {Matrix(stored, count, width), Vector(influence), Vector(rollout), Vector(offsets), Vector(squares)},
                {answer.predicted.data(), places});
    for (std::size_t task = 0; task < job.tasks(); ++task) job.Run(task);
    answer.rows.resize(Size(job.Pack()));
    answer.stored_rows.resize(answer.rows.size());
    answer.states.resize(answer.rows.size() * Size(width));
    for (std::size_t task = 0; task < job.tasks(); ++task) {
      job.Write(task, {answer.states.data(), answer.rows.data(), answer.stored_rows.data()});
    }
    return answer;
  }

  std::string Refusal() const {
    return Message<InvalidArgument>([this] { Run(); });
  }
};

// One sequence, element by element, in double precision.
class NaiveSequence {
 public:
  NaiveSequence(const Request& request, std::int64_t b)
      : request_(request), b_(b), n_(request.length[Size(b)]), e_(request.entry[Size(b)]) {}

  // The number of a token's row, or -1.
  std::int64_t Row(std::int64_t t) const {
    const auto at = std::find(request_.rows.begin(), request_.rows.end(), b_ * request_.padded_length + t);
    return at == request_.rows.end() ? -1 : at - request_.rows.begin();
  }

  double Stored(std::int64_t t, std::int64_t column) const {
    const std::int64_t row = request_.offsets[Size(e_)] + t;
    return static_cast<double>(NaiveHalf(request_.stored[Size(row * request_.width + column)]));
  }

  double Difference(std::int64_t t, std::int64_t column) const {
    return static_cast<double>(request_.states[Size(Row(t) * request_.width + column)]) - Stored(t, column);
  }

  double Pair(const Halves& numbers, std::int64_t j, std::int64_t t) const {
    return static_cast<double>(NaiveHalf(numbers[Size(request_.squares[Size(e_)] + j * n_ + t)]));
  }

  double Weight(std::int64_t t) const {
    if (Row(t) < 0) return static_cast<double>(request_.predicted[Size(b_ * request_.padded_length + t)]);
    double difference = 0;
    double norm = 0;
    for (std::int64_t i = 0; i < request_.width; ++i) {
      difference += std::pow(Difference(t, i), 2);
      norm += std::pow(Stored(t, i), 2);
    }
    if (difference == 0) return 0;
    const double change = std::sqrt(difference / norm);
    return change <= 8 ? change : 8;
  }

  double Predicted(std::int64_t t) const {
    if (e_ < 0 || t >= n_) return 0;
    double sum = 0;
    for (std::int64_t j = 0; j < n_; ++j) sum += Weight(j) * Pair(request_.influence, j, t);
    return sum;
  }

  double Start(std::int64_t t, std::int64_t column) const {
    double sum = Stored(t, column);
    for (std::int64_t j = 0; j < n_; ++j) {
      if (Row(j) < 0 || request_.change[Size(b_ * request_.padded_length + j)] == 0) continue;
      double passed_on = 0;
      for (std::int64_t i = 0; i < request_.width; ++i) {
        passed_on += Difference(j, i) * static_cast<double>(request_.correction[Size(i * request_.width + column)]);
      }
      sum += Pair(request_.rollout, j, t) * passed_on;
    }
    return sum;
  }

 private:
  const Request& request_;
  std::int64_t b_;
  std::int64_t n_;
  std::int64_t e_;
};

bool Near(float have, double want) { return std::abs(static_cast<double>(have) - want) < 1e-4 * (1 + std::abs(want)); }

// Returns how many rows joined.
std::size_t CheckRequest(const Request& request) {
  const Answer answer = request.Run();
  std::size_t at = 0;
  for (std::int64_t b = 0; b < request.batch(); ++b) {
    const NaiveSequence naive(request, b);
    const std::int64_t e = request.entry[Size(b)];
    for (std::int64_t t = 0; t < request.padded_length; ++t) {
      const std::int64_t place = b * request.padded_length + t;
      const float predicted = answer.predicted[Size(place)];
      CHECK(Near(predicted, naive.Predicted(t)));
      const std::int64_t row = naive.Row(t);
      if (row < 0 && (t >= request.length[Size(b)] || predicted <= request.bound)) continue;
      CHECK(answer.rows[at] == place);
      CHECK(answer.stored_rows[at] == (e < 0 ? 0 : request.offsets[Size(e)] + t));
      for (std::int64_t i = 0; i < request.width; ++i) {
        const float state = answer.states[at * Size(request.width) + Size(i)];
        CHECK(row < 0 ? Near(state, naive.Start(t, i)) : state == request.states[Size(row * request.width + i)]);
      }
      ++at;
    }
  }
  CHECK(at == answer.rows.size());
  return at - request.rows.size();
}

// A batch over two entries of n and 1 tokens and a sequence without, of which every `step`th token runs, and every
// second of these changed.
Request Mixed(std::mt19937& random, std::int64_t n, std::int64_t padded, std::int64_t step, std::int64_t width,
              float bound) {
  std::uniform_int_distribution<int> magnitude(0, 0x2E00);  // up to 0.09
  Request request{{},
                  {0, -1, 1, 0},
                  {n, std::min<std::int64_t>(n, 3), 1, n},
                  padded,
                  width,
                  {},
                  Floats(Size(4 * padded)),
                  RandomFloats(random, Size(4 * padded)),
                  RandomHalves(random, Size((n + 1) * width)),
                  Halves(Size(n * n + 1)),
                  RandomHalves(random, Size(n * n + 1)),
                  {1, 0},
                  {1, 0},
                  RandomFloats(random, Size(width * width)),
                  bound};
  for (auto& half : request.influence) half = static_cast<std::uint16_t>(magnitude(random));
  for (float& predicted : request.predicted) predicted = std::abs(predicted);
  for (std::int64_t b = 0; b < 4; ++b) {
    const std::int64_t every = request.entry[Size(b)] < 0 ? 1 : step;
    for (std::int64_t t = 0; t < request.length[Size(b)]; t += every) {
      request.rows.push_back(b * padded + t);
      if (t % (2 * every) == 0) request.change[Size(b * padded + t)] = 0.5F;
    }
  }
  request.states = RandomFloats(random, request.rows.size() * Size(width));
  return request;
}

TEST(rows_join_by_the_definition) {
  std::mt19937 random(1);
  std::size_t joined = 0;
  for (const std::int64_t n : {1, 2, 7, 33}) {
    for (const std::int64_t width : {1, 5, 48, 70}) {
      for (const std::int64_t step : {1, 2, 5, 33}) {
        for (const float bound : {-1.0F, 0.3F, 1.0F, kInfinity}) {
          const std::size_t count = CheckRequest(Mixed(random, n, n + 2, step, width, bound));
          CHECK(bound < kInfinity || count == 0);
          joined += count;
        }
      }
    }
  }
  CHECK(joined > 1000);
}

TEST(one_sequence_without_padding) {
  std::mt19937 random(2);
  for (const std::int64_t n : {1, 64, 100}) {
    Request request = Mixed(random, n, n, 7, 32, 1.0F);
    request.entry.resize(1);
    request.length.resize(1);
    request.change.resize(Size(n));
    request.predicted.resize(Size(n));
    request.rows.resize(Size((n + 6) / 7));
    request.states.resize(request.rows.size() * 32);
    CheckRequest(request);
  }
}

// 4 tokens of width 1, stored as 1, 2, 4 and 8. Token 1 runs and changed to 3, which is half as much again. It moves
// token 0 by 1 and token 2 by half of its change, and passes on 1 and 2 to them.
Request Small(float bound) {
  return {{1},
          {0},
          {4},
          5,
          1,
          {3},
          {0, 0.25F, 0, 0, 0},
          {0, 9, 0, 0, 9},
          {kOne, kTwo, 0x4400, 0x4800},
          {0, 0, 0, 0, kOne, kOne, kHalf, 0, 0, 0, 0, kTwo, 0, 0, 0, 0},
          {0, 0, 0, 0, kOne, kOne, kTwo, kOne, 0, 0, 0, 0, 0, 0, 0, 0},
          {0},
          {0},
          {10},
          bound};
}

TEST(rows_join_for_which_more_than_the_bound_is_predicted) {
  Answer answer = Small(0.25F).Run();
  CHECK((answer.predicted == Floats{0.5F, 0.5F, 0.25F, 0, 0}));
  CHECK((answer.rows == Integers{0, 1} && answer.stored_rows == answer.rows));
  CHECK((answer.states == Floats{1 + 10, 3}));
  answer = Small(0.24F).Run();
  CHECK((answer.rows == Integers{0, 1, 2}));
  CHECK((answer.states == Floats{1 + 10, 3, 4 + 2 * 10}));
}

TEST(none_join_and_all_join) {
  for (const float bound : {0.5F, kInfinity}) {
    const Answer answer = Small(bound).Run();
    CHECK((answer.rows == Integers{1} && answer.states == Floats{3}));
    CHECK((answer.predicted == Floats{0.5F, 0.5F, 0.25F, 0, 0}));
  }
  for (const float bound : {-1.0F, kNan}) {
    const Answer answer = Small(bound).Run();
    CHECK((answer.rows == Integers{0, 1, 2, 3}));
    CHECK((answer.states == Floats{11, 3, 24, 18}));
  }
}

TEST(what_was_predicted_counts_for_rows_that_do_not_run) {
  Request request = Small(0.25F);
  request.predicted = {0, 9, 0.25F, 9, 9};  // token 2 moves token 3 twice as much
  const Answer answer = request.Run();
  CHECK((answer.predicted == Floats{0.5F, 0.5F, 0.25F, 0.5F, 0}));
  CHECK((answer.rows == Integers{0, 1, 3} && answer.states == Floats{11, 3, 18}));
}

TEST(rows_that_did_not_change_pass_nothing_on) {
  Request request = Small(0.25F);
  request.change[1] = 0;
  const Answer answer = request.Run();
  CHECK((answer.rows == Integers{0, 1} && answer.states == Floats{1, 3}));
}

TEST(a_change_here_counts_up_to_8) {
  for (const float state : {18.0F, 1000.0F, kInfinity, kNan}) {
    Request request = Small(4);
    request.states[0] = state;
    const Answer answer = request.Run();
    CHECK((answer.predicted == Floats{8, 8, 4, 0, 0}));
    CHECK((answer.rows == Integers{0, 1}));
    CHECK(std::isfinite(state) == std::isfinite(answer.states[0]));
  }
  Request from_zero = Small(4);
  from_zero.stored[1] = 0;
  CHECK((from_zero.Run().predicted == Floats{8, 8, 4, 0, 0}));
  from_zero.states[0] = 0;
  CHECK((from_zero.Run().predicted == Floats(5)));
}

TEST(a_predicted_nan_joins_and_an_influence_of_nothing_does_not_count) {
  Request request = Small(kInfinity);
  request.influence[4] = kHalfNan;
  CHECK((request.Run().rows == Integers{0, 1}));
  request = Small(kInfinity);
  request.influence[3] = request.influence[8] = kHalfNan;  // of tokens 0 and 2
  CHECK((request.Run().rows == Integers{1}));
  request.predicted[0] = kNan;
  CHECK((request.Run().rows == Integers{0, 1, 2, 3}));
}

TEST(batches_of_nothing) {
  CHECK((Request{{}, {}, {}, 3, 2, {}, {}, {}, {}, {}, {}, {}, {}, Floats(4), 0}.Run().rows.empty()));
  CHECK((Request{{}, {0}, {0}, 0, 1, {}, {}, {}, {}, {}, {}, {0}, {0}, {1}, -1}.Run().rows.empty()));
  const Request no_width = {{1}, {0}, {2}, 2, 0, {}, {0, 1}, {0, 0}, {}, Halves(4, kOne), Halves(4, kOne),
                            {0}, {0}, {},  -1};
  CHECK((no_width.Run().rows == Integers{0, 1}));
  Request none_run = Small(-1);  // nothing changed, but nothing is the bound
  none_run.rows = {};
  none_run.states = {};
  none_run.predicted = Floats(5);
  const Answer answer = none_run.Run();
  CHECK((answer.rows == Integers{0, 1, 2, 3} && answer.states == Floats{1, 2, 4, 8}));
}

TEST(a_sequence_of_one_token) {
  Request request = {{}, {0}, {1}, 1, 1, {}, {0}, {0.5F}, {kTwo}, {kOne}, {kOne}, {0}, {0}, {1}, 0.5F};
  CHECK(request.Run().rows.empty());
  request.bound = 0.4F;
  CHECK((request.Run().rows == Integers{0} && request.Run().states == Floats{2}));
  request.rows = {0};
  request.states = {3};
  CHECK((request.Run().states == Floats{3} && request.Run().predicted == Floats{0.5F}));
}

TEST(a_lone_sequence_without_entry_is_copied) {
  const Request request = {{0, 1}, {-1}, {2}, 3, 1, {5, 6}, Floats(3), {1, 1, 1}, {}, {}, {}, {}, {}, {1}, -1};
  const Answer answer = request.Run();
  CHECK((answer.rows == Integers{0, 1} && answer.stored_rows == Integers{0, 0} && answer.states == Floats{5, 6}));
  CHECK(answer.predicted == Floats(3));
}

TEST(grow_refuses_a_damaged_store) {
  for (const std::int64_t at : {std::int64_t{-1}, std::int64_t{1}, std::int64_t{17}, kHuge, -kHuge - 1}) {
    Request request = Small(1);
    request.offsets = {at};
    CHECK_SAYS(request.Refusal(), "owns 4 of 'stored' from " + std::to_string(at) + " on, but that ends after 4");
    request.offsets = {0};
    request.squares = {at};
    CHECK_SAYS(request.Refusal(), "owns 16 of 'influence' from " + std::to_string(at) + " on, but that ends after 16");
  }
  Request request = Small(kInfinity);  // also where none joins
  request.rollout.pop_back();
  CHECK_SAYS(request.Refusal(), "owns 16 of 'rollout' from 0 on, but that ends after 15");
}

TEST(grow_refuses_rows_entries_and_lengths) {
  Request request = Small(1);
  request.entry = {1};
  CHECK_SAYS(request.Refusal(), "entry 1 does not exist, the store holds 1");
  request.entry = {-1};
  CHECK_SAYS(request.Refusal(), "sequence 0 has no entry and 1 of its 4 tokens run");
  request = Small(1);
  request.length = {6};
  CHECK_SAYS(request.Refusal(), "sequence 0 has 6 tokens and is padded to 5");
  request.length = {-1};
  CHECK_SAYS(request.Refusal(), "sequence 0 has -1 tokens");
  request = Small(1);
  request.rows = {4};
  CHECK_SAYS(request.Refusal(), "padding does not run");
  request.rows = {5};
  CHECK_SAYS(request.Refusal(), "'rows' holds 5, but the batch has 5 places");
  request.rows = {-1};
  CHECK_SAYS(request.Refusal(), "rows are not negative and rise");
}

TEST(grow_refuses_a_length_whose_square_overflows) {
  const Integers none = {};
  const Integers zero = {0};
  const Integers length = {kHuge};
  const auto run = [&] {
    const Ragged ragged(Vector(none), Vector(zero), Vector(length), kHuge, 1);
    GrowJob({{nullptr, {0, 0}}, {nullptr, {1, kHuge}}, {nullptr, {1, kHuge}}, {nullptr, {0, 0}}, 0}, ragged,
            {{nullptr, {kHuge, 0}}, {nullptr, {0}}, {nullptr, {0}}, Vector(zero), Vector(zero)}, {nullptr, {1, kHuge}});
  };
  CHECK_SAYS(Message<InvalidArgument>(run), "too large");
}

TEST(grow_refuses_shapes_that_do_not_fit) {
  const Integers zero = {0};
  const Integers two = {2};
  const Floats floats(16);
  const Halves halves(16);
  const Ragged ragged(Vector(zero), Vector(zero), Vector(two), 2, 1);
  const auto refusal = [&](std::int64_t rows, std::int64_t batch, std::int64_t padded, std::int64_t width,
                           std::int64_t correction, std::int64_t entries) {
    return Message<InvalidArgument>([&] {
      Floats predicted(Size(batch * 2));
      GrowJob({Matrix(floats, rows, 3), Matrix(floats, batch, 2), Matrix(floats, batch, padded),
               Matrix(floats, 3, correction), 0},
              ragged, {Matrix(halves, 2, width), Vector(halves), Vector(halves), Vector(zero), {nullptr, {entries}}},
              {predicted.data(), {batch, 2}});
    });
  };
  CHECK_SAYS(refusal(2, 1, 2, 3, 3, 1), "'states' holds 2 rows and 'rows' 1");
  CHECK_SAYS(refusal(1, 2, 2, 3, 3, 1), "'change' holds 2 sequences and 'entry' 1");
  CHECK_SAYS(refusal(1, 1, 3, 3, 3, 1), "'predicted' has shape [1, 3] and 'change' [1, 2]");
  CHECK_SAYS(refusal(1, 1, 2, 4, 3, 1), "'states' is 3 wide and 'stored' 4");
  CHECK_SAYS(refusal(1, 1, 2, 3, 4, 1), "'correction' has shape [3, 4] and 'states' is 3 wide");
  CHECK_SAYS(refusal(1, 1, 2, 3, 3, 2), "'offsets' holds 1 entries and 'squares' 2");
}

}  // namespace
}  // namespace onnx_memo::testing
