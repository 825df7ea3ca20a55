// Products in 8 bits for every 64-bit Arm processor: products of two bytes in 16 bits, of which two are added in 32.
#include "simd/levels.h"

#ifdef ONNX_MEMO_AARCH64
#include "simd/neon_integers.h"

namespace {

struct NeonIntegers : NeonSigned {
  static constexpr std::size_t kTileRegisters = 2;
  using Weights = int8x16_t;
  struct Sums {
    int32x4_t low, high;  // of columns 0 and 1, and 2 and 3, two of each
  };

  static Sums NoSum() { return {vdupq_n_s32(0), vdupq_n_s32(0)}; }
  static Weights LoadWeights(const std::int8_t* from) { return vld1q_s8(from); }
  static void AddDots(int8x16_t four, Weights weights, Sums* sums) {
    sums->low = vpadalq_s16(sums->low, vmull_s8(vget_low_s8(four), vget_low_s8(weights)));
    sums->high = vpadalq_s16(sums->high, vmull_high_s8(four, weights));
  }
  static Integers Total(Sums sums, Integers of_weights) {
    return Corrected(vpaddq_s32(sums.low, sums.high), of_weights);
  }
};

}  // namespace

const onnx_memo::simd::IntegerLevel onnx_memo::simd::kIntegersNeon = MakeIntegerLevel<NeonIntegers>("neon");
#endif
