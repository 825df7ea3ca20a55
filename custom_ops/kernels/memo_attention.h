// MemoAttention: attention of the rows that run over stored keys and values, in which theirs are fresh.
#pragma once

#include <cstddef>

#include "ort/context.h"

namespace onnx_memo {

class MemoAttention {
 public:
  static constexpr const char* kName = "MemoAttention";
  enum Input : std::size_t {
    kQuery,
    kKey,
    kValue,
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
      {"query", ort::ElementType::kFloat},         {"key", ort::ElementType::kFloat},
      {"value", ort::ElementType::kFloat},         {"rows", ort::ElementType::kInt64},
      {"entry", ort::ElementType::kInt64},         {"length", ort::ElementType::kInt64},
      {"padded_length", ort::ElementType::kInt64}, {"keys", ort::ElementType::kFloat16},
      {"values", ort::ElementType::kFloat16},      {"offsets", ort::ElementType::kInt64},
      {"scale", ort::ElementType::kFloat},         {"bias", ort::ElementType::kFloat},
  };
  enum Output : std::size_t { kContext };
  static constexpr TensorSpec kOutputs[] = {
      {"context", ort::ElementType::kFloat},
  };

  void Compute(const Context& context) const;
};

}  // namespace onnx_memo
