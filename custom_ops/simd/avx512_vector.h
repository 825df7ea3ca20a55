// Sixteen floats in a register, with AVX-512, as simd/kernels.h and simd/integer_kernels.h use them.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

// Internal linkage on purpose: files that include this are compiled for different processors.
namespace {

struct Avx512 {
  static constexpr std::size_t kWidth = 16;
  static constexpr std::size_t kTileRows = 12;
  using Register = __m512;

  static Register Broadcast(float x) { return _mm512_set1_ps(x); }
  static Register Load(const float* from) { return _mm512_loadu_ps(from); }
  static Register LoadBytes(const unsigned char* from) { return _mm512_loadu_ps(from); }
  static Register LoadHalves(const std::uint16_t* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static void Store(float* to, Register x) { _mm512_storeu_ps(to, x); }
  static Register Add(Register a, Register b) { return _mm512_add_ps(a, b); }
  static Register Subtract(Register a, Register b) { return _mm512_sub_ps(a, b); }
  static Register Least(Register a, Register b) { return _mm512_min_ps(a, b); }     // b, where a is NaN
  static Register Greatest(Register a, Register b) { return _mm512_max_ps(a, b); }  // b, where a is NaN
  static Register Multiply(Register a, Register b) { return _mm512_mul_ps(a, b); }
  static Register MultiplyAdd(Register a, Register b, Register c) { return _mm512_fmadd_ps(a, b, c); }
  static Register LowBitsToExponent(Register x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x), 23));
  }
  static float Sum(Register x) { return _mm512_reduce_add_ps(x); }
  static float Most(Register x) { return _mm512_reduce_max_ps(x); }  // of numbers that are not NaN

  // Four neighbouring columns of as many rows as a register has lanes.
  static void LoadColumns(const float* const* rows, std::size_t column, Register (&columns)[4]) {
    Register quads[4];  // of rows r, r + 4, r + 8 and r + 12
    for (std::size_t r = 0; r < 4; ++r) {
      quads[r] = _mm512_castps128_ps512(_mm_loadu_ps(rows[r] + column));
      quads[r] = _mm512_insertf32x4(quads[r], _mm_loadu_ps(rows[r + 4] + column), 1);
      quads[r] = _mm512_insertf32x4(quads[r], _mm_loadu_ps(rows[r + 8] + column), 2);
      quads[r] = _mm512_insertf32x4(quads[r], _mm_loadu_ps(rows[r + 12] + column), 3);
    }
    const Register low = _mm512_unpacklo_ps(quads[0], quads[1]), next_low = _mm512_unpacklo_ps(quads[2], quads[3]);
    const Register high = _mm512_unpackhi_ps(quads[0], quads[1]), next_high = _mm512_unpackhi_ps(quads[2], quads[3]);
    columns[0] = _mm512_shuffle_ps(low, next_low, 0x44);
    columns[1] = _mm512_shuffle_ps(low, next_low, 0xEE);
    columns[2] = _mm512_shuffle_ps(high, next_high, 0x44);
    columns[3] = _mm512_shuffle_ps(high, next_high, 0xEE);
  }
};

}  // namespace
