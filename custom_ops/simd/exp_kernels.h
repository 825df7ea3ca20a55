// Exponentials, written once over a processor's vectors: see simd/kernels.h.
#pragma once

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

}  // namespace
