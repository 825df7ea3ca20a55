// Four floats in a register, with NEON as every 64-bit Arm processor has it, as simd/kernels.h and
// simd/integer_kernels.h use them.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

// Internal linkage on purpose: files that include this are compiled for different processors.
namespace {

struct Neon {
  static constexpr std::size_t kWidth = 4;
  static constexpr std::size_t kTileRows = 12;
  using Register = float32x4_t;

  static Register Broadcast(float x) { return vdupq_n_f32(x); }
  static Register Load(const float* from) { return vld1q_f32(from); }
  static Register LoadBytes(const unsigned char* from) { return vreinterpretq_f32_u8(vld1q_u8(from)); }
  static Register LoadHalves(const std::uint16_t* from) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from))); }
  static void Store(float* to, Register x) { vst1q_f32(to, x); }
  static Register Add(Register a, Register b) { return vaddq_f32(a, b); }
  static Register Subtract(Register a, Register b) { return vsubq_f32(a, b); }
  // By comparing: its own least and greatest numbers are NaN where either is.
  static Register Least(Register a, Register b) { return vbslq_f32(vcltq_f32(a, b), a, b); }     // b, where a is NaN
  static Register Greatest(Register a, Register b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }  // b, where a is NaN
  static Register Multiply(Register a, Register b) { return vmulq_f32(a, b); }
  static Register MultiplyAdd(Register a, Register b, Register c) { return vfmaq_f32(c, a, b); }
  static Register LowBitsToExponent(Register x) {
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(x), 23));
  }
  static float Sum(Register x) { return vaddvq_f32(x); }
  static float Most(Register x) { return vmaxvq_f32(x); }  // of numbers that are not NaN

  // Four neighbouring columns of as many rows.
  static void LoadColumns(const float* const* rows, std::size_t column, Register (&columns)[4]) {
    float64x2_t pairs[4];  // of two rows each: columns 0 and 2 of the first ones, 1 and 3, then of the others
    for (std::size_t r = 0; r < 4; r += 2) {
      const Register above = vld1q_f32(rows[r] + column), below = vld1q_f32(rows[r + 1] + column);
      pairs[r] = vreinterpretq_f64_f32(vtrn1q_f32(above, below));
      pairs[r + 1] = vreinterpretq_f64_f32(vtrn2q_f32(above, below));
    }
    for (std::size_t c = 0; c < 2; ++c) {
      columns[c] = vreinterpretq_f32_f64(vtrn1q_f64(pairs[c], pairs[2 + c]));
      columns[2 + c] = vreinterpretq_f32_f64(vtrn2q_f64(pairs[c], pairs[2 + c]));
    }
  }
};

}  // namespace
