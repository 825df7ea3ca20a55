// What products in 8 bits need of processors with AVX-512, but for the dot products themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd/avx512_vector.h"
#include "simd/integer_kernels.h"

namespace {

struct Avx512Rounding : Avx512 {
  using Integers = __m512i;

  static std::int32_t RoundOne(float x) { return _mm_cvtss_si32(_mm_set_ss(x)); }
  static Integers Round(Register x) { return _mm512_cvtps_epi32(x); }
  static void StoreBytes(std::uint8_t* to, Integers whole) {
    const Integers positive = _mm512_max_epi32(whole, _mm512_setzero_si512());
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtusepi32_epi8(positive));
  }
  static Integers Four(const std::uint8_t* from) {
    std::int32_t four = 0;
    std::memcpy(&four, from, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static Integers LoadIntegers(const std::int32_t* from) { return _mm512_loadu_si512(from); }
  static Register ToFloats(Integers whole) { return _mm512_cvtepi32_ps(whole); }

  static Register MinusAbsolute(Register x) {
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(x), _mm512_set1_epi32(INT32_MIN)));
  }
  // By a step of Newton's from 14 bits on: a division takes as long as ten products.
  static Register Reciprocal(Register x) {
    const Register near = _mm512_rcp14_ps(x);
    return _mm512_fmadd_ps(near, _mm512_fnmadd_ps(x, near, _mm512_set1_ps(1.0F)), near);
  }
  static float SquareRoot(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }
};

}  // namespace
