// What the processor runs, as far as levels differ in it. For simd/simd.cc alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "simd/levels.h"

#ifdef ONNX_MEMO_X86_64
#ifdef _MSC_VER
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif
#ifdef ONNX_MEMO_AARCH64
#ifdef __linux__
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif
#endif

namespace onnx_memo::simd {
namespace {

#ifdef ONNX_MEMO_X86_64

struct CpuidLeaf {
  std::uint32_t eax, ebx, ecx, edx;
};

CpuidLeaf Cpuid(std::uint32_t leaf, std::uint32_t part = 0) {
#ifdef _MSC_VER
  int words[4] = {};
  __cpuidex(words, static_cast<int>(leaf), static_cast<int>(part));
  return {static_cast<std::uint32_t>(words[0]), static_cast<std::uint32_t>(words[1]),
          static_cast<std::uint32_t>(words[2]), static_cast<std::uint32_t>(words[3])};
#else
  CpuidLeaf words{};
  __get_cpuid_count(leaf, part, &words.eax, &words.ebx, &words.ecx, &words.edx);
  return words;
#endif
}

// Which registers the operating system saves. Only to be called where cpuid says OSXSAVE.
std::uint64_t SavedRegisters() {
#ifdef _MSC_VER
  return _xgetbv(0);
#else
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
#endif
}

constexpr bool HasAll(std::uint64_t word, std::uint64_t bits) { return (word & bits) == bits; }

struct Processor {
  bool avx2 = false;        // with FMA and F16C
  bool avxvnni = false;     // with AVX2
  bool avx512 = false;      // foundation
  bool avx512bw = false;    // with foundation
  bool avx512vnni = false;  // with foundation

  Processor() {
    constexpr std::uint32_t kFma = 1U << 12, kOsxsave = 1U << 27, kAvx = 1U << 28, kF16c = 1U << 29;
    constexpr std::uint32_t kAvx2 = 1U << 5, kAvx512f = 1U << 16, kAvx512bw = 1U << 30;
    constexpr std::uint64_t kYmm = 0x06, kZmm = 0xE6;
    const std::uint32_t basic = Cpuid(1).ecx;
    if (!HasAll(basic, kFma | kOsxsave | kAvx | kF16c)) return;
    constexpr std::uint32_t kVnni = 1U << 11;
    const CpuidLeaf extended = Cpuid(7);
    avx2 = HasAll(extended.ebx, kAvx2) && HasAll(SavedRegisters(), kYmm);
    constexpr std::uint32_t kAvxVnni = 1U << 4;
    avxvnni = avx2 && extended.eax >= 1 && HasAll(Cpuid(7, 1).eax, kAvxVnni);  // eax: the last part there is
    avx512 = avx2 && HasAll(extended.ebx, kAvx512f) && HasAll(SavedRegisters(), kZmm);
    avx512bw = avx512 && HasAll(extended.ebx, kAvx512bw);
    avx512vnni = avx512 && HasAll(extended.ecx, kVnni);
  }
};

#endif

#ifdef ONNX_MEMO_AARCH64

#ifdef __APPLE__
bool HasFeature(const char* name) {
  int has = 0;
  std::size_t size = sizeof has;
  return sysctlbyname(name, &has, &size, nullptr, 0) == 0 && has != 0;
}
#endif

struct Processor {
  bool dotprod = false;
  bool i8mm = false;

  Processor() {  // where the system is another one, no more than what all have
#ifdef __linux__
    constexpr unsigned long kAsimdDp = 1UL << 20, kI8mm = 1UL << 13;  // as asm/hwcap.h numbers them
    dotprod = (getauxval(AT_HWCAP) & kAsimdDp) != 0;
    i8mm = (getauxval(AT_HWCAP2) & kI8mm) != 0;
#elif defined(__APPLE__)
    dotprod = HasFeature("hw.optional.arm.FEAT_DotProd");
    i8mm = HasFeature("hw.optional.arm.FEAT_I8MM");
#endif
  }
};

#endif

}  // namespace

}  // namespace onnx_memo::simd
