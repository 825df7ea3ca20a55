// Asks the processor to bring memory closer before it is read. Never a fault, never a change of meaning.
#pragma once

#include <cstdint>

#if defined(_MSC_VER) && defined(_M_X64)
#include <xmmintrin.h>
#endif

// Internal linkage on purpose: files that include this are compiled for different processors.
namespace {

inline void PrefetchLine(const unsigned char* byte) {
#if defined(__GNUC__)
  __builtin_prefetch(byte);
#elif defined(_MSC_VER) && defined(_M_X64)
  _mm_prefetch(reinterpret_cast<const char*>(byte), _MM_HINT_T0);
#else
  static_cast<void>(byte);
#endif
}

// All lines of `size` bytes, wherever the first one begins.
inline void Prefetch(const unsigned char* bytes, std::int64_t size) {
  constexpr std::int64_t kLine = 64;
  for (std::int64_t at = 0; at < size; at += kLine) PrefetchLine(bytes + at);
  if (size > 0) PrefetchLine(bytes + size - 1);
}

}  // namespace
