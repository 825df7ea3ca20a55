// MemoRowsAttention: MemoAttention of queries, keys and values side by side.
#pragma once

#include <cstddef>

#include "ort/context.h"

namespace onnx_memo {

class MemoRowsAttention {
 public:
  static constexpr const char* kName = "MemoRowsAttention";
  enum Input : std::size_t {
    kQkv,
    kHeads,
    kRows,
    kEntry,
    kLength,
    kPaddedLength,
    kKeys,
    kValues,
    kOffsets,
    kScale,
    kBias
  };
  static constexpr TensorSpec kInputs[] = {
      {"qkv", ort::ElementType::kFloat},     {"heads", ort::ElementType::kInt64},
      {"rows", ort::ElementType::kInt64},    {"entry", ort::ElementType::kInt64},
      {"length", ort::ElementType::kInt64},  {"padded_length", ort::ElementType::kInt64},
      {"keys", ort::ElementType::kFloat16},  {"values", ort::ElementType::kFloat16},
      {"offsets", ort::ElementType::kInt64}, {"scale", ort::ElementType::kFloat},
      {"bias", ort::ElementType::kFloat},
  };
  enum Output : std::size_t { kContext };
  static constexpr TensorSpec kOutputs[] = {
      {"context", ort::ElementType::kFloat},
  };

  void Compute(const Context& context) const;
};

}  // namespace onnx_memo
