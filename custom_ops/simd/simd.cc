// Picks the levels that the processor runs.
#include "simd/simd.h"

#include "simd/levels.h"
#include "simd/processor.h"

namespace onnx_memo::simd {

std::vector<const Level*> Supported() {
  std::vector<const Level*> levels = {&kPortable};
#ifdef ONNX_MEMO_X86_64
  const Processor processor;
  levels.push_back(&kSse2);
  if (processor.avx2) levels.push_back(&kAvx2);
  if (processor.avx512) levels.push_back(&kAvx512);
#endif
#ifdef ONNX_MEMO_AARCH64
  levels.push_back(&kNeon);
#endif
  return levels;
}

const Level& Best() {
  static const Level& best = *Supported().back();
  return best;
}

std::vector<const IntegerLevel*> SupportedIntegers() {
  std::vector<const IntegerLevel*> levels = {&kIntegersPortable};
#ifdef ONNX_MEMO_X86_64
  const Processor processor;
  if (processor.avx2) levels.push_back(&kIntegersAvx2);
  if (processor.avx512bw) levels.push_back(&kIntegersAvx512Bw);
#ifdef ONNX_MEMO_AVX_VNNI
  if (processor.avxvnni) levels.push_back(&kIntegersAvxVnni);
#endif
  if (processor.avx512vnni) levels.push_back(&kIntegersAvx512Vnni);
#endif
#ifdef ONNX_MEMO_AARCH64
  const Processor processor;
  levels.push_back(&kIntegersNeon);
#ifdef ONNX_MEMO_DOTPROD
  if (processor.dotprod) levels.push_back(&kIntegersDotprod);
#endif
#ifdef ONNX_MEMO_I8MM
  if (processor.i8mm) levels.push_back(&kIntegersI8mm);
#endif
#endif
  return levels;
}

const IntegerLevel& BestIntegers() {
  static const IntegerLevel& best = *SupportedIntegers().back();
  return best;
}

}  // namespace onnx_memo::simd
