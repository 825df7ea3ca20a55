// MemoFetch: copies the stored rows of each entry into a padded batch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/entries.h"
#include "ort/context.h"
#include "ort/view.h"

namespace onnx_memo {

// output[b, t] = payload[offsets[e] + t] for t < lengths[e], with e = entry[b]; zero after that and where e is a miss.
class FetchJob {
 public:
  // `output` is [B, L, d]. Throws InvalidArgument unless every entry can be read and fits into L.
  FetchJob(View<const std::int64_t, 1> entry, View<const std::uint16_t, 2> payload, const Entries& entries,
           View<float, 3> output);

  std::int64_t work() const { return output_.count(); }
  std::size_t tasks() const;

  // Writes one share of the output. Tasks may run at the same time.
  void Run(std::size_t task) const noexcept;

 private:
  View<const std::int64_t, 1> entry_;
  View<const std::uint16_t, 2> payload_;
  Entries entries_;
  View<float, 3> output_;
  std::int64_t row_elements_;   // L * d
  std::int64_t shares_of_row_;  // tasks that one row of the batch is cut into
};

class MemoFetch {
 public:
  static constexpr const char* kName = "MemoFetch";
  enum Input : std::size_t { kEntry, kPayload, kOffsets, kLengths, kPaddedLength };
  static constexpr TensorSpec kInputs[] = {
      {"entry", ort::ElementType::kInt64},         {"payload", ort::ElementType::kFloat16},
      {"offsets", ort::ElementType::kInt64},       {"lengths", ort::ElementType::kInt64},
      {"padded_length", ort::ElementType::kInt64},
  };
  enum Output : std::size_t { kOutput };
  static constexpr TensorSpec kOutputs[] = {
      {"output", ort::ElementType::kFloat},
  };

  void Compute(const Context& context) const;
};

}  // namespace onnx_memo
