// Products in 8 bits for 64-bit Arm processors with dot products of bytes, both of them signed: most from 2018 on.
#include "simd/levels.h"

#ifdef ONNX_MEMO_DOTPROD
#include "simd/neon_integers.h"

namespace {

struct Dotprod : NeonSigned {
  static constexpr std::size_t kTileRegisters = 3;
  using Weights = int8x16_t;
  using Sums = int32x4_t;

  static Sums NoSum() { return vdupq_n_s32(0); }
  static Weights LoadWeights(const std::int8_t* from) { return vld1q_s8(from); }
  static void AddDots(int8x16_t four, Weights weights, Sums* sums) { *sums = vdotq_s32(*sums, weights, four); }
  static Integers Total(Sums sums, Integers of_weights) { return Corrected(sums, of_weights); }
};

}  // namespace

const onnx_memo::simd::IntegerLevel onnx_memo::simd::kIntegersDotprod = MakeIntegerLevel<Dotprod>("dotprod");
#endif
