// What products in 8 bits need of 64-bit Arm processors, but for the dot products themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd/integer_kernels.h"
#include "simd/neon_vector.h"

namespace {

struct NeonRounding : Neon {
  using Integers = int32x4_t;

  static std::int32_t RoundOne(float x) { return vcvtns_s32_f32(x); }
  static Integers Round(Register x) { return vcvtnq_s32_f32(x); }
  static void StoreBytes(std::uint8_t* to, Integers whole) {
    const uint16x4_t words = vqmovun_s32(whole);
    const uint8x8_t bytes = vqmovn_u16(vcombine_u16(words, words));
    const std::uint32_t four = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
    std::memcpy(to, &four, sizeof four);
  }
  static uint8x16_t Four(const std::uint8_t* from) {
    std::uint32_t four = 0;
    std::memcpy(&four, from, sizeof four);
    return vreinterpretq_u8_u32(vdupq_n_u32(four));
  }
  static Integers LoadIntegers(const std::int32_t* from) { return vld1q_s32(from); }
  static Register ToFloats(Integers whole) { return vcvtq_f32_s32(whole); }

  static Register MinusAbsolute(Register x) { return vnegq_f32(vabsq_f32(x)); }
  static Register Reciprocal(Register x) { return vdivq_f32(vdupq_n_f32(1.0F), x); }
  static float SquareRoot(float x) { return vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0); }
};

// Where bytes can only be multiplied as signed ones: 128 is taken from those of a row, and 128 times the sum of each
// column's weights added in the end.
struct NeonSigned : NeonRounding {
  static int8x16_t BroadcastFour(const std::uint8_t* from) {
    return vreinterpretq_s8_u8(veorq_u8(Four(from), vdupq_n_u8(0x80)));
  }
  // Modulo 2^32: only the result need be as small as sums are.
  static Integers Corrected(Integers sums, Integers of_weights) {
    const uint32x4_t taken = vshlq_n_u32(vreinterpretq_u32_s32(of_weights), 7);
    return vreinterpretq_s32_u32(vaddq_u32(vreinterpretq_u32_s32(sums), taken));
  }
};

}  // namespace
