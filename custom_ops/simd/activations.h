// The activations that may follow a product, of a register at a time, written once over a processor's vectors.
//
// All but Relu are relu(v) - |v| * tail(|v|): the tail is small where it must be exact, so that the error stays below
// 2.5e-7 times max(|v|, 1). NaN gives NaN, and infinities the limits.
//
// A `Vector` class has, besides what simd/integer_kernels.h says, `MinusAbsolute` and `Reciprocal`, of numbers from 1
// up.
#pragma once

#include <cstddef>
#include <utility>  // only index_sequence

#include "simd/integers.h"

namespace {

template <typename Vector>
struct ReluOf {
  using Register = typename Vector::Register;

  Register operator()(Register v) const { return Vector::Greatest(Vector::Broadcast(0.0F), v); }
};

template <typename Vector, std::size_t count>
typename Vector::Register Polynomial(typename Vector::Register x, const float (&coefficients)[count]) {
  auto sum = Vector::Broadcast(coefficients[0]);
  for (std::size_t i = 1; i < count; ++i) sum = Vector::MultiplyAdd(sum, x, Vector::Broadcast(coefficients[i]));
  return sum;
}

// 0.5 v (1 + erf(v / sqrt 2)). The tail is that of the normal distribution: 1 / p^8, where the polynomial p is fitted
// to the eighth root (largest error 1.7e-8 of max(|v|, 1)). What is below 1e-28 becomes zero: the smallest numbers of
// all, which processors multiply a hundred times as slowly, do not come up.
template <typename Vector>
struct GeluOf {
  using Register = typename Vector::Register;

  Register operator()(Register v) const {
    constexpr float kCoefficients[] = {2.967277851e-06F,  1.566021820e-05F,  9.490828961e-05F,
                                       -1.466540853e-04F, 1.041145646e-03F,  -9.383437224e-03F,
                                       4.884164408e-02F,  -1.087576672e-01F, 1.090507984e+00F};
    const Register x = Vector::Greatest(Vector::Broadcast(-14.0F), Vector::MinusAbsolute(v));
    const Register root = Vector::Reciprocal(Polynomial<Vector>(x, kCoefficients));
    const Register square = Vector::Multiply(root, root);
    const Register fourth = Vector::Multiply(square, square);
    const Register eighth = Vector::MultiplyAdd(fourth, fourth, Vector::Broadcast(-1e-28F));
    const Register tail = Vector::Greatest(Vector::Broadcast(0.0F), eighth);
    return Vector::MultiplyAdd(x, tail, ReluOf<Vector>()(v));
  }
};

// relu(v) + x / (1 + 2^-y), where x is -|v| and `y`, its function, is in [-127, 0].
template <typename Vector>
typename Vector::Register LogisticUnit(typename Vector::Register v, typename Vector::Register x,
                                       typename Vector::Register y) {
  using Register = typename Vector::Register;
  constexpr float kShift =
      0x1.8p23F + 127.0F;  // added to k, the nearest whole number: the lowest bits are then k + 127
  constexpr float kCoefficients[] = {1.327647245e-03F, 9.675541893e-03F, 5.550713092e-02F,
                                     2.402212024e-01F, 6.931469440e-01F, 1.000000119e+00F};
  const Register shift = Vector::Broadcast(kShift);
  const Register shifted = Vector::Add(y, shift);
  const Register rest = Vector::Subtract(y, Vector::Subtract(shifted, shift));
  const Register power = Vector::Multiply(Polynomial<Vector>(rest, kCoefficients), Vector::LowBitsToExponent(shifted));
  const Register inverse = Vector::Reciprocal(Vector::Add(Vector::Broadcast(1.0F), power));
  return Vector::MultiplyAdd(x, Vector::Multiply(power, inverse), ReluOf<Vector>()(v));
}

// 0.5 v (1 + tanh(sqrt(2 / pi) (v + 0.044715 v^3))), that is v / (1 + e^-t) with twice the hyperbolic tangent's
// argument as t. From |v| = 10.03 on the tail is zero.
template <typename Vector>
struct GeluTanhOf {
  using Register = typename Vector::Register;

  Register operator()(Register v) const {
    constexpr float kLinear = 2.30220819F;  // 2 sqrt(2 / pi) / ln 2
    constexpr float kCubic = kLinear * 0.044715F;
    const Register x = Vector::Greatest(Vector::Broadcast(-10.03125F), Vector::MinusAbsolute(v));
    const Register factor =
        Vector::MultiplyAdd(Vector::Multiply(x, x), Vector::Broadcast(kCubic), Vector::Broadcast(kLinear));
    return LogisticUnit<Vector>(v, x, Vector::Multiply(x, factor));
  }
};

// v / (1 + e^-v). From |v| = 88 on the tail is zero.
template <typename Vector>
struct SiluOf {
  using Register = typename Vector::Register;

  Register operator()(Register v) const {
    const Register x = Vector::Greatest(Vector::Broadcast(-88.0F), Vector::MinusAbsolute(v));
    return LogisticUnit<Vector>(v, x, Vector::Multiply(x, Vector::Broadcast(1.44269504F)));
  }
};

// As many registers as one, so that each step is taken in all of them before the next one: steps of one register wait
// for each other, and processors look ahead for too few others.
template <typename Vector, std::size_t... i>
struct Several {
  using One = typename Vector::Register;
  struct Register {
    One of[sizeof...(i)];
  };

  static Register Broadcast(float x) { return {{(static_cast<void>(i), Vector::Broadcast(x))...}}; }
  static Register Add(const Register& a, const Register& b) { return {{Vector::Add(a.of[i], b.of[i])...}}; }
  static Register Subtract(const Register& a, const Register& b) { return {{Vector::Subtract(a.of[i], b.of[i])...}}; }
  static Register Multiply(const Register& a, const Register& b) { return {{Vector::Multiply(a.of[i], b.of[i])...}}; }
  static Register MultiplyAdd(const Register& a, const Register& b, const Register& c) {
    return {{Vector::MultiplyAdd(a.of[i], b.of[i], c.of[i])...}};
  }
  static Register Greatest(const Register& a, const Register& b) { return {{Vector::Greatest(a.of[i], b.of[i])...}}; }
  static Register MinusAbsolute(const Register& x) { return {{Vector::MinusAbsolute(x.of[i])...}}; }
  static Register Reciprocal(const Register& x) { return {{Vector::Reciprocal(x.of[i])...}}; }
  static Register LowBitsToExponent(const Register& x) { return {{Vector::LowBitsToExponent(x.of[i])...}}; }
};

// In place, of a panel's columns in some rows.
template <typename Vector, template <typename> class Function, std::size_t... i>
void ApplyTo(float* output, std::size_t stride, std::index_sequence<i...>) {
  constexpr std::size_t kWidth = Vector::kWidth;
  constexpr std::size_t kRegisters = onnx_memo::simd::kPanelColumns / kWidth;
  const Function<Several<Vector, i...>> function;
  const auto y = function({{Vector::Load(output + i / kRegisters * stride + i % kRegisters * kWidth)...}});
  (Vector::Store(output + i / kRegisters * stride + i % kRegisters * kWidth, y.of[i]), ...);
}

template <typename Vector, template <typename> class Function>
void ApplyToRows(float* output, std::size_t rows, std::size_t stride) {
  constexpr std::size_t kRegisters = onnx_memo::simd::kPanelColumns / Vector::kWidth;
  constexpr std::size_t kRows = kRegisters < 6 ? 6 / kRegisters : 1;
  std::size_t r = 0;
  for (; r + kRows <= rows; r += kRows) {
    ApplyTo<Vector, Function>(output + r * stride, stride, std::make_index_sequence<kRows * kRegisters>());
  }
  for (; r < rows; ++r) {
    ApplyTo<Vector, Function>(output + r * stride, stride, std::make_index_sequence<kRegisters>());
  }
}

template <typename Vector>
void Activate(onnx_memo::simd::Activation activation, float* output, std::size_t rows, std::size_t stride) {
  using onnx_memo::simd::Activation;
  switch (activation) {
    case Activation::kNone:
      return;
    case Activation::kRelu:
      return ApplyToRows<Vector, ReluOf>(output, rows, stride);
    case Activation::kGelu:
      return ApplyToRows<Vector, GeluOf>(output, rows, stride);
    case Activation::kGeluTanh:
      return ApplyToRows<Vector, GeluTanhOf>(output, rows, stride);
    case Activation::kSilu:
      return ApplyToRows<Vector, SiluOf>(output, rows, stride);
  }
}

}  // namespace
