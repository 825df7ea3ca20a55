// What products in 8 bits need of processors with AVX2, but for the dot products themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd/avx2_vector.h"
#include "simd/integer_kernels.h"

namespace {

struct Avx2Rounding : Avx2 {
  using Integers = __m256i;

  static std::int32_t RoundOne(float x) { return _mm_cvtss_si32(_mm_set_ss(x)); }
  static Integers Round(Register x) { return _mm256_cvtps_epi32(x); }
  static void StoreBytes(std::uint8_t* to, Integers whole) {
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(words, words));
  }
  static __m128i Four(const std::uint8_t* from) {
    std::int32_t four = 0;
    std::memcpy(&four, from, sizeof four);
    return _mm_set1_epi32(four);
  }
  static Integers LoadIntegers(const std::int32_t* from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  }
  static Register ToFloats(Integers whole) { return _mm256_cvtepi32_ps(whole); }

  static Register MinusAbsolute(Register x) { return _mm256_or_ps(x, _mm256_set1_ps(-0.0F)); }
  static Register Reciprocal(Register x) { return _mm256_div_ps(_mm256_set1_ps(1.0F), x); }
  static float SquareRoot(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }
};

}  // namespace
