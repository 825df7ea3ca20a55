// Exponentials and what is made of them, written once over a processor's vectors: see simd/kernels.h, which includes
// this file.
#pragma once

#include <cmath>  // only HUGE_VALF
#include <cstddef>
#include <cstring>

namespace {

// exp of numbers up to zero; NaN of NaN. Writes x = k * ln 2 + r with |r| <= ln 2 / 2: 2^k by its exponent, whose bits
// are zero from k = -127 on, and e^r by the polynomial of degree 6 whose greatest relative error is least, 2e-9.
template <typename Vector>
typename Vector::Register Exp(typename Vector::Register x) {
  using Register = typename Vector::Register;
  constexpr float kShift = 0x1.8p23F + 127.0F;  // added to k: the lowest bits are then k + 127
  x = Vector::Greatest(Vector::Broadcast(-88.0F), x);
  const Register shift = Vector::Broadcast(kShift);
  const Register shifted = Vector::MultiplyAdd(x, Vector::Broadcast(1.44269504F), shift);
  const Register k = Vector::Subtract(shifted, shift);
  Register r = Vector::MultiplyAdd(k, Vector::Broadcast(-0.693359375F), x);  // ln 2 in two parts, the first one short
  r = Vector::MultiplyAdd(k, Vector::Broadcast(2.12194440e-4F), r);
  constexpr float kCoefficients[] = {8.3748568e-3F, 4.1668229e-2F, 1.66664198e-1F, 4.9999991e-1F, 1.0F, 1.0F};
  Register sum = Vector::Broadcast(1.38367934e-3F);
  for (const float coefficient : kCoefficients) sum = Vector::MultiplyAdd(sum, r, Vector::Broadcast(coefficient));
  return Vector::Multiply(sum, Vector::LowBitsToExponent(shifted));
}

template <typename Vector>
void Softmax(float scale, const float* bias, float* row, std::size_t count) {
  using Register = typename Vector::Register;
  const std::size_t whole = count - count % Vector::kWidth;
  float lanes[Vector::kWidth];

  Register most = Vector::Broadcast(-HUGE_VALF);
  for (std::size_t i = 0; i < whole; i += Vector::kWidth) {
    const Register x = Vector::MultiplyAdd(Vector::Broadcast(scale), Vector::Load(row + i), Vector::Load(bias + i));
    Vector::Store(row + i, x);
    most = Vector::Greatest(x, most);
  }
  Vector::Store(lanes, most);
  float greatest = lanes[0];
  for (std::size_t i = 1; i < Vector::kWidth; ++i) greatest = lanes[i] > greatest ? lanes[i] : greatest;
  for (std::size_t i = whole; i < count; ++i) {
    row[i] = scale * row[i] + bias[i];
    greatest = row[i] > greatest ? row[i] : greatest;
  }

  most = Vector::Broadcast(greatest);
  Register sums = Vector::Broadcast(0.0F);
  for (std::size_t i = 0; i < whole; i += Vector::kWidth) {
    const Register exp = Exp<Vector>(Vector::Subtract(Vector::Load(row + i), most));
    Vector::Store(row + i, exp);
    sums = Vector::Add(sums, exp);
  }
  if (whole < count) {  // the last numbers and -inf, whose exp is zero
    Vector::Store(lanes, Vector::Broadcast(-HUGE_VALF));
    std::memcpy(lanes, row + whole, (count - whole) * sizeof(float));
    const Register exp = Exp<Vector>(Vector::Subtract(Vector::Load(lanes), most));
    Vector::Store(lanes, exp);
    std::memcpy(row + whole, lanes, (count - whole) * sizeof(float));
    sums = Vector::Add(sums, exp);
  }

  const float factor = 1.0F / Vector::Sum(sums);
  for (std::size_t i = 0; i < whole; i += Vector::kWidth) {
    Vector::Store(row + i, Vector::Multiply(Vector::Broadcast(factor), Vector::Load(row + i)));
  }
  for (std::size_t i = whole; i < count; ++i) row[i] *= factor;
}

}  // namespace
