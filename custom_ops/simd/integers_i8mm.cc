// Products in 8 bits for 64-bit Arm processors with dot products of unsigned and signed bytes: servers and phones from
// 2020 or so on.
#include "simd/levels.h"

#ifdef ONNX_MEMO_I8MM
#include "simd/neon_integers.h"

namespace {

struct I8mm : NeonRounding {
  static constexpr std::size_t kTileRegisters = 3;
  using Weights = int8x16_t;
  using Sums = int32x4_t;

  static Sums NoSum() { return vdupq_n_s32(0); }
  static Weights LoadWeights(const std::int8_t* from) { return vld1q_s8(from); }
  static uint8x16_t BroadcastFour(const std::uint8_t* from) { return Four(from); }
  static void AddDots(uint8x16_t four, Weights weights, Sums* sums) { *sums = vusdotq_s32(*sums, four, weights); }
  static Integers Total(Sums sums, Integers) { return sums; }
};

}  // namespace

const onnx_memo::simd::IntegerLevel onnx_memo::simd::kIntegersI8mm = MakeIntegerLevel<I8mm>("i8mm");
#endif
