// Asks the processor to bring memory closer before it is read. Never a fault, never a change of meaning.
#pragma once

#include <cstdint>

#if defined(_MSC_VER) && defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace onnx_memo {

inline void Prefetch(const unsigned char* bytes, std::int64_t size) {
  constexpr std::int64_t kLine = 64;
  for (std::int64_t at = 0; at < size; at += kLine) {
#if defined(__GNUC__)
    __builtin_prefetch(bytes + at);
#elif defined(_MSC_VER) && defined(_M_X64)
    _mm_prefetch(reinterpret_cast<const char*>(bytes + at), _MM_HINT_T0);
#endif
  }
}

}  // namespace onnx_memo
