// What may follow MemoProduct: activations against their formulas, and the normalization, on every level of the loops.
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/memo_product_norm.h"
#include "tests/check.h"
#include "tests/product_request.h"

namespace onnx_memo::testing {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

using simd::Activation;

constexpr Activation kActivations[] = {Activation::kNone, Activation::kRelu, Activation::kGelu, Activation::kGeluTanh,
                                       Activation::kSilu};

double Formula(Activation activation, double v) {
  switch (activation) {
    case Activation::kRelu:
      return std::isnan(v) ? v : std::max(v, 0.0);
    case Activation::kGelu:
      return 0.5 * v * std::erfc(-v / std::sqrt(2.0));
    case Activation::kGeluTanh:
      return v / (1 + std::exp(-2 * std::sqrt(2 / std::acos(-1.0)) * (v + 0.044715 * v * v * v)));
    case Activation::kSilu:
      return v / (1 + std::exp(-v));
    default:
      return v;
  }
}

// The activation of single numbers: they are the bias where rows are zero.
Floats Activated(Activation activation, const Floats& numbers, const simd::IntegerLevel& level) {
  std::mt19937 random(1);
  Request request(random, 1, 4, static_cast<std::int64_t>(numbers.size()));
  std::fill(request.x.begin(), request.x.end(), 0.0F);
  request.bias = numbers;
  return Run(request, level, activation);
}

TEST(activations_are_their_formulas) {
  Floats numbers;
  for (float v = -40.0F; v < 40.0F; v += 0.00037F) numbers.push_back(v);
  for (const float v : {0.0F, -0.0F, 1e-44F, -1e-30F, 1e5F, -1e5F, 3e38F, -3e38F}) numbers.push_back(v);
  for (const simd::IntegerLevel* level : simd::SupportedIntegers()) {
    for (const Activation activation : kActivations) {
      const Floats y = Activated(activation, numbers, *level);
      double most = 0;
      for (std::size_t i = 0; i < numbers.size(); ++i) {
        const auto v = static_cast<double>(numbers[i]);
        most =
            std::max(most, std::abs(static_cast<double>(y[i]) - Formula(activation, v)) / std::max(std::abs(v), 1.0));
      }
      CHECK(most < 2.5e-7);
    }
  }
}

TEST(activations_of_infinities_are_the_limits_and_nan_stays) {
  for (const simd::IntegerLevel* level : simd::SupportedIntegers()) {
    for (const Activation activation : kActivations) {
      const Floats y = Activated(activation, {kInfinity, -kInfinity, kNan}, *level);
      CHECK(y[0] == kInfinity);
      CHECK(y[1] == (activation == Activation::kNone ? -kInfinity : 0.0F));
      CHECK(std::isnan(y[2]));
    }
  }
}

struct Norm {
  Floats residual, gamma, beta;
  float epsilon = 1e-5F;
  std::vector<std::int64_t> dims;

  Norm(std::mt19937& random, const Request& request)
      : residual(RandomFloats(random, Size(request.rows * request.columns))),
        gamma(RandomFloats(random, Size(request.columns))),
        beta(RandomFloats(random, Size(request.columns))),
        dims{request.rows, request.columns} {}
};

struct Normalized {
  Floats y, sum;
};

Normalized RunNorm(const Request& request, const Norm& norm, const simd::IntegerLevel& level) {
  const Packed packed(request);
  const std::int64_t rows = request.rows, columns = request.columns;
  Normalized results{Floats(Size(rows * columns), -7.0F), Floats(Size(rows * columns), -7.0F)};
  const ProductInputs inputs = {{rows, columns}, Matrix(request.x, rows, request.inner), packed.weights};
  const NormInputs norm_inputs = {norm.dims, Matrix(norm.residual, rows, columns), Vector(norm.gamma),
                                  Vector(norm.beta), norm.epsilon};
  ProductNormJob job(inputs, norm_inputs, {results.sum.data(), {rows, columns}}, {results.y.data(), {rows, columns}},
                     level);
  RunAll(job);
  return results;
}

bool Near(float have, double want) { return std::abs(static_cast<double>(have) - want) <= 2e-5 * (1 + std::abs(want)); }

TEST(norm_is_as_defined_for_sizes_around_registers_and_blocks) {
  std::mt19937 random(2);
  for (const simd::IntegerLevel* level : simd::SupportedIntegers()) {
    for (const std::int64_t columns : {0, 1, 7, 16, 48, 65, 150}) {
      for (const std::int64_t rows : {0, 1, 7, 61}) {
        const Request request(random, rows, 20, columns);
        const Norm norm(random, request);
        const Floats product = Run(request, *level);
        const Normalized have = RunNorm(request, norm, *level);
        for (std::int64_t r = 0; r < rows; ++r) {
          const std::size_t first = Size(r * columns);
          double mean = 0, variance = 0;
          for (std::size_t c = 0; c < Size(columns); ++c) {
            CHECK(have.sum[first + c] == product[first + c] + norm.residual[first + c]);
            mean += static_cast<double>(have.sum[first + c]) / static_cast<double>(columns);
          }
          for (std::size_t c = 0; c < Size(columns); ++c) {
            variance += std::pow(static_cast<double>(have.sum[first + c]) - mean, 2) / static_cast<double>(columns);
          }
          for (std::size_t c = 0; c < Size(columns); ++c) {
            const double normal = (static_cast<double>(have.sum[first + c]) - mean) / std::sqrt(variance + 1e-5);
            const double want = normal * static_cast<double>(norm.gamma[c]) + static_cast<double>(norm.beta[c]);
            CHECK(Near(have.y[first + c], want));
          }
        }
      }
    }
  }
}

// A mean of squares, less the square of a mean of 1000, would be off by more than the variance is.
TEST(norm_does_not_cancel) {
  std::mt19937 random(3);
  Request request(random, 1, 4, 144);
  std::fill(request.x.begin(), request.x.end(), 0.0F);
  std::fill(request.bias.begin(), request.bias.end(), 1000.0F);
  Norm norm(random, request);
  for (std::size_t c = 0; c < 144; ++c) norm.residual[c] = c % 2 == 0 ? 0.0625F : -0.0625F;
  norm.epsilon = 0;
  std::fill(norm.gamma.begin(), norm.gamma.end(), 1.0F);
  std::fill(norm.beta.begin(), norm.beta.end(), 0.0F);
  for (const simd::IntegerLevel* level : simd::SupportedIntegers()) {
    const Floats y = RunNorm(request, norm, *level).y;
    for (std::size_t c = 0; c < 144; ++c) CHECK(Near(y[c], c % 2 == 0 ? 1.0 : -1.0));
  }
}

TEST(a_row_is_the_same_in_every_tile_whatever_follows) {
  std::mt19937 random(4);
  constexpr std::int64_t kRows = 13, kInner = 20, kWidth = 100;  // the last panel has 4 columns
  const Request all(random, kRows, kInner, kWidth, {2, 5});
  const Norm norm(random, all);
  for (const simd::IntegerLevel* level : simd::SupportedIntegers()) {
    const Normalized normalized = RunNorm(all, norm, *level);
    for (const Activation activation : kActivations) {
      const Floats together = Run(all, *level, activation);
      for (std::int64_t count = 1; count <= kRows; ++count) {
        Request last = all;  // `count` rows, of which the first is in every place of a tile
        last.rows = count;
        last.x.assign(all.x.end() - count * kInner, all.x.end());
        const std::size_t bytes = Size(count * kWidth) * sizeof(float);
        const std::size_t first = Size((kRows - count) * kWidth);
        CHECK(std::memcmp(Run(last, *level, activation).data(), together.data() + first, bytes) == 0);
        Norm its_norm = norm;
        its_norm.dims[0] = count;
        its_norm.residual.erase(its_norm.residual.begin(),
                                its_norm.residual.begin() + static_cast<std::ptrdiff_t>(first));
        const Normalized some = RunNorm(last, its_norm, *level);
        CHECK(std::memcmp(some.y.data(), normalized.y.data() + first, bytes) == 0);
        CHECK(std::memcmp(some.sum.data(), normalized.sum.data() + first, bytes) == 0);
      }
    }
  }
}

TEST(a_residual_that_broke_breaks_its_row_alone) {
  std::mt19937 random(5);
  const Request request(random, 3, 8, 50);
  for (const simd::IntegerLevel* level : simd::SupportedIntegers()) {
    for (const float broken : {kInfinity, -kInfinity, kNan}) {
      Norm norm(random, request);
      const Floats before = RunNorm(request, norm, *level).y;
      norm.residual[50 + 49] = broken;
      const Floats y = RunNorm(request, norm, *level).y;
      for (std::size_t i = 0; i < y.size(); ++i) CHECK(i / 50 == 1 ? std::isnan(y[i]) : y[i] == before[i]);
    }
  }
}

TEST(norm_refuses_shapes_that_do_not_fit) {
  std::mt19937 random(6);
  const Request request(random, 2, 8, 3);
  const auto refusal = [&](const Norm& norm) {
    return Message<InvalidArgument>([&] { RunNorm(request, norm, simd::BestIntegers()); });
  };
  Norm norm(random, request);
  norm.dims = {1, 2, 3};
  CHECK_SAYS(refusal(norm), "'residual' has shape [1, 2, 3]; the product has [2, 3]");
  norm.dims = {2, 1};
  CHECK_SAYS(refusal(norm), "'residual' has shape [2, 1]");
  norm = Norm(random, request);
  norm.gamma.push_back(1);
  CHECK_SAYS(refusal(norm), "'gamma' holds 4 numbers and 'beta' 3; the product is 3 wide");
  norm = Norm(random, request);
  norm.beta.clear();
  CHECK_SAYS(refusal(norm), "'beta' 0");
}

}  // namespace
}  // namespace onnx_memo::testing
