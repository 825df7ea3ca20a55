// The real entry points, driven through a stand-in for ONNX Runtime: registration, calls, statuses, threads.
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <thread>

#include "kernels/memo_attention.h"
#include "kernels/memo_context.h"
#include "kernels/memo_exact.h"
#include "kernels/memo_fetch.h"
#include "kernels/memo_grow.h"
#include "kernels/memo_lookup.h"
#include "kernels/memo_merge.h"
#include "kernels/memo_product.h"
#include "kernels/memo_product_norm.h"
#include "kernels/memo_rows.h"
#include "kernels/memo_rows_attention.h"
#include "kernels/memo_segments.h"
#include "kernels/memo_self_attention.h"
#include "tests/annoy_builder.h"
#include "tests/check.h"
#include "tests/fake_ort.h"
#include "tests/naive.h"

namespace onnx_memo::testing {
namespace {

using ort::ElementType;
using Inputs = std::vector<FakeValue>;

// Three entries of one number; the first two have length 2.
Inputs LookupInputs() {
  return {FloatTensor({2, 1}, {1.1F, 5.0F}), IntTensor({2}, {2, 3}),  FloatTensor({1, 3}, {0.0F, 1.0F, 9.0F}),
          IntTensor({3}, {2, 2, 3}),         FloatTensor({}, {0.5F}), ByteTensor({})};
}

// Two rows of width 2 for one entry, padded to 3.
Inputs FetchInputs() {
  return {IntTensor({1}, {0}), HalfTensor({2, 2}, {0x3C00, 0x4000, 0x4200, 0x4400}), IntTensor({1}, {0}),
          IntTensor({1}, {2}), IntTensor({1}, {3})};
}

// One entry of two tokens and one head of width 1; the probabilities are 1 0 / 0.5 0.5.
Inputs ContextInputs() {
  return {IntTensor({1}, {0}), FloatTensor({1, 3, 1}, {4.0F, 6.0F, 8.0F}),
          HalfTensor({4, 1}, {0x3C00, 0x0000, 0x3800, 0x3800}), IntTensor({1}, {0}), IntTensor({1}, {2})};
}

// One entry of two tokens, stored as 1 and 1; the request's are 2 and 1. The first passes half of its change on.
Inputs RowsInputs() {
  return {FloatTensor({1, 3, 1}, {2.0F, 1.0F, 0.0F}),
          IntTensor({1}, {0}),
          IntTensor({1}, {2}),
          HalfTensor({2, 1}, {0x3C00, 0x3C00}),
          HalfTensor({4}, {0x3C00, 0x3800, 0x3800, 0x3C00}),
          IntTensor({1}, {0}),
          IntTensor({1}, {0}),
          FloatTensor({}, {0.1F}),
          FloatTensor({1}, {0.5F}),
          FloatTensor({}, {1.0F})};
}

// The same entry; the first token runs and is 2 again, and the second joins with a quarter of ten times that change.
Inputs GrowInputs() {
  return {FloatTensor({1, 1}, {2.0F}),
          IntTensor({1}, {0}),
          FloatTensor({1, 3}, {1.0F, 0.0F, 0.0F}),
          FloatTensor({1, 3}, {1.0F, 0.5F, 0.0F}),
          IntTensor({1}, {0}),
          IntTensor({1}, {2}),
          HalfTensor({2, 1}, {0x3C00, 0x3C00}),
          HalfTensor({4}, {0x3C00, 0x3800, 0x0000, 0x3C00}),
          IntTensor({1}, {0}),
          IntTensor({1}, {0}),
          FloatTensor({}, {0.75F}),
          FloatTensor({1, 1}, {10.0F}),
          HalfTensor({4}, {0x0000, 0x3400, 0x0000, 0x0000})};
}

// The second of two tokens runs, one head of width 1. Stored is 0 as key and 2 as value of the first.
Inputs AttentionInputs() {
  return {FloatTensor({1, 1, 1}, {1.0F}),
          FloatTensor({1, 1, 1}, {0.0F}),
          FloatTensor({1, 1, 1}, {4.0F}),
          IntTensor({1}, {1}),
          IntTensor({1}, {0}),
          IntTensor({1}, {2}),
          IntTensor({1}, {3}),
          HalfTensor({2, 1}, {0, 0x7E00}),
          HalfTensor({2, 1}, {0x4000, 0x7E00}),
          IntTensor({1}, {0}),
          FloatTensor({1}, {1.0F}),
          FloatTensor({1, 1, 1, 3}, {0, 0, 0})};
}

// The same, side by side.
Inputs RowsAttentionInputs() {
  Inputs inputs = AttentionInputs();
  inputs.erase(inputs.begin(), inputs.begin() + 3);
  inputs.insert(inputs.begin(), {FloatTensor({1, 3}, {1, 0, 4}), IntTensor({3}, {1, 1, 1})});
  return inputs;
}

// The second of two tokens ran. The first was stored as 5 and gets half of 4.
Inputs MergeInputs() {
  return {FloatTensor({1, 1}, {9.0F}), FloatTensor({1, 1}, {4.0F}),
          IntTensor({1}, {1}),         IntTensor({1}, {0}),
          IntTensor({1}, {2}),         IntTensor({}, {3}),
          FloatTensor({2, 1}, {5, 6}), HalfTensor({4}, {0x3C00, 0x3C00, 0x3800, 0x3C00}),
          IntTensor({1}, {0}),         IntTensor({1}, {0})};
}

// Two sequences padded to 2 tokens, one head of width 1; the second has one token. All keys of the first are the same.
// The last row of each asks.
Inputs SelfAttentionInputs() {
  return {FloatTensor({3, 3}, {1, 1, 4, 2, 1, 6, 3, 3, 9}),
          IntTensor({3}, {1, 1, 1}),
          IntTensor({3}, {0, 1, 3}),
          IntTensor({2}, {1, 3}),
          IntTensor({1}, {2}),
          FloatTensor({}, {0.5F}),
          FloatTensor({1, 1, 1, 2}, {0, 0})};
}

TEST(the_library_registers_its_operators_for_the_cpu) {
  const FakeOrt host;
  CHECK(host.operators().size() == 17);
  for (const ort::CustomOp* op : host.operators()) {
    CHECK(op->version == 17);
    CHECK(op->GetExecutionProviderType(op) == nullptr);
    for (std::size_t i = 0; i < op->GetInputTypeCount(op); ++i) {
      CHECK(op->GetInputType(op, i) != ElementType::kUndefined);
      CHECK(op->GetInputCharacteristic(op, i) == ort::Characteristic::kRequired);
      CHECK(op->GetInputMemoryType(op, i) == ort::MemoryType::kDefault);
    }
  }
}

template <typename Kernel>
bool ReportsItsTables(const FakeOrt& host) {
  const ort::CustomOp* const op = host.Find(Kernel::kName);
  bool same = op->GetInputTypeCount(op) == std::size(Kernel::kInputs);
  same &= op->GetOutputTypeCount(op) == std::size(Kernel::kOutputs);
  for (std::size_t i = 0; i < std::size(Kernel::kInputs); ++i) {
    same &= op->GetInputType(op, i) == Kernel::kInputs[i].type;
  }
  for (std::size_t i = 0; i < std::size(Kernel::kOutputs); ++i) {
    same &= op->GetOutputType(op, i) == Kernel::kOutputs[i].type;
  }
  return same;
}

TEST(the_operators_take_and_give_what_their_tables_say) {
  const FakeOrt host;
  CHECK(ReportsItsTables<MemoSegments>(host));
  CHECK(ReportsItsTables<MemoLookup>(host));
  CHECK(ReportsItsTables<MemoFetch>(host));
  CHECK(ReportsItsTables<MemoContext>(host));
  CHECK(ReportsItsTables<MemoRows>(host));
  CHECK(ReportsItsTables<MemoGrow>(host));
  CHECK(ReportsItsTables<MemoAttention>(host));
  CHECK(ReportsItsTables<MemoRowsAttention>(host));
  CHECK(ReportsItsTables<MemoMerge>(host));
  CHECK(ReportsItsTables<MemoExact>(host));
  CHECK(ReportsItsTables<MemoProduct>(host));
  CHECK(ReportsItsTables<MemoProductGelu>(host));
  CHECK(ReportsItsTables<MemoProductGeluTanh>(host));
  CHECK(ReportsItsTables<MemoProductRelu>(host));
  CHECK(ReportsItsTables<MemoProductSilu>(host));
  CHECK(ReportsItsTables<MemoProductNorm>(host));
  CHECK(ReportsItsTables<MemoSelfAttention>(host));
}

TEST(registering_again_shares_the_domain) {
  const FakeOrt first;
  const FakeOrt second;
  CHECK(first.operators() == second.operators());
}

TEST(an_old_host_gets_a_status_that_names_its_version) {
  CHECK(RegistrationMessage(17).empty());
  CHECK_SAYS(RegistrationMessage(16), "ONNX Runtime 1.16.3 is too old for this library; install 1.17 or later");
  CHECK(RegistrationMessage(0).empty());  // not even a way to make a status
}

TEST(lookup_runs_through_the_interface) {
  const FakeResult result = FakeOrt().Run("MemoLookup", LookupInputs());
  CHECK(result.message.empty());
  CHECK(Numbers<std::int64_t>(result.outputs[0]) == Integers({1, -1}));
  CHECK(result.outputs[1].dims.empty() && result.outputs[1].bytes[0] == 0);
}

TEST(a_batch_hits_when_it_has_rows_and_none_misses) {
  Inputs inputs = LookupInputs();
  inputs[0] = FloatTensor({1, 1}, {Numbers<float>(inputs[0])[0]});
  inputs[1] = IntTensor({1}, {Numbers<std::int64_t>(inputs[1])[0]});
  CHECK(FakeOrt().Run("MemoLookup", inputs).outputs[1].bytes[0] == 1);
  inputs[0] = FloatTensor({0, 1}, {});
  inputs[1] = IntTensor({0}, {});
  CHECK(FakeOrt().Run("MemoLookup", inputs).outputs[1].bytes[0] == 0);
}

TEST(segments_runs_through_the_interface) {
  const FakeResult result = FakeOrt().Run("MemoSegments", {IntTensor({2, 2}, {1, 0, 0, 1})});
  CHECK(result.message.empty());
  CHECK(Numbers<std::int64_t>(result.outputs[0]) == Integers({1, -1}));
  CHECK(result.outputs[1].dims == Integers({2, 8, 2}));
  CHECK(Numbers<float>(result.outputs[1])[0] == 1.0F);
  CHECK(FakeOrt().Run("MemoSegments", {IntTensor({0, 3}, {})}).message.empty());
}

TEST(products_in_8_bits_run_above_a_strictness_of_zero) {
  const auto exact = [](float strictness) {
    return FakeOrt().Run("MemoExact", {FloatTensor({}, {strictness})}).outputs[0].bytes[0] == 1;
  };
  CHECK(exact(1) && exact(1e-30F));
  CHECK(!exact(0) && !exact(-1) && !exact(std::nanf("")));
  CHECK_SAYS(FakeOrt().Run("MemoExact", {FloatTensor({2}, {1, 1})}).message, "strictness");
}

TEST(fetch_runs_through_the_interface) {
  const FakeResult result = FakeOrt().Run("MemoFetch", FetchInputs());
  CHECK(result.message.empty());
  CHECK(Numbers<float>(result.outputs[0]) == Floats({1, 2, 3, 4, 0, 0}));
}

TEST(context_runs_through_the_interface) {
  const FakeResult result = FakeOrt().Run("MemoContext", ContextInputs());
  CHECK(result.message.empty());
  CHECK(Numbers<float>(result.outputs[0]) == Floats({4, 5, 0}));
}

TEST(rows_run_through_the_interface) {
  FakeResult result = FakeOrt().Run("MemoRows", RowsInputs());
  CHECK(result.message.empty());
  CHECK(result.outputs[0].dims == Integers({1}) && Numbers<std::int64_t>(result.outputs[0]) == Integers({0}));
  CHECK(result.outputs[1].dims == Integers({1}) && Numbers<std::int64_t>(result.outputs[1]) == Integers({0}));
  CHECK(result.outputs[2].dims == Integers({1}) && result.outputs[2].bytes[0] == 1);
  CHECK(result.outputs[3].dims.empty() && result.outputs[3].bytes[0] == 1);
  CHECK(result.outputs[4].dims == Integers({1, 3}) && Numbers<float>(result.outputs[4]) == Floats({1, 0, 0}));
  CHECK(result.outputs[5].dims == Integers({1, 3}) && Numbers<float>(result.outputs[5]) == Floats({1, 0.5F, 0}));
  Inputs inputs = RowsInputs();
  inputs[9] = FloatTensor({}, {0.1F});
  result = FakeOrt().Run("MemoRows", inputs);
  CHECK(result.outputs[0].dims == Integers({0}) && result.outputs[1].dims == Integers({0}));
  CHECK(result.outputs[2].bytes[0] == 0 && result.outputs[3].bytes[0] == 0);
  CHECK(result.outputs[4].dims == Integers({1, 3}) && Numbers<float>(result.outputs[4]) == Floats(3));
  CHECK(result.outputs[5].dims == Integers({1, 3}) && Numbers<float>(result.outputs[5]) == Floats(3));
}

TEST(rows_join_through_the_interface) {
  FakeResult result = FakeOrt().Run("MemoGrow", GrowInputs());
  CHECK(result.message.empty());
  CHECK(result.outputs[0].dims == Integers({2, 1}) && Numbers<float>(result.outputs[0]) == Floats({2, 3.5F}));
  CHECK(result.outputs[1].dims == Integers({2}) && Numbers<std::int64_t>(result.outputs[1]) == Integers({0, 1}));
  CHECK(result.outputs[2].dims == Integers({2}) && Numbers<std::int64_t>(result.outputs[2]) == Integers({0, 1}));
  CHECK(result.outputs[3].dims == Integers({1, 3}) && Numbers<float>(result.outputs[3]) == Floats({1, 1, 0}));
  Inputs inputs = GrowInputs();
  inputs[10] = FloatTensor({1}, {1.0F});
  result = FakeOrt().Run("MemoGrow", inputs);
  CHECK(Numbers<float>(result.outputs[0]) == Floats({2}));
}

TEST(attention_runs_through_the_interface) {
  const FakeResult result = FakeOrt().Run("MemoAttention", AttentionInputs());
  CHECK(result.message.empty());
  CHECK(result.outputs[0].dims == Integers({1, 1, 1}) && Numbers<float>(result.outputs[0]) == Floats({3}));
}

TEST(attention_side_by_side_runs_through_the_interface) {
  const FakeResult result = FakeOrt().Run("MemoRowsAttention", RowsAttentionInputs());
  CHECK(result.message.empty());
  CHECK(result.outputs[0].dims == Integers({1, 1}) && Numbers<float>(result.outputs[0]) == Floats({3}));
}

TEST(self_attention_runs_through_the_interface) {
  const FakeResult result = FakeOrt().Run("MemoSelfAttention", SelfAttentionInputs());
  CHECK(result.message.empty());
  CHECK(result.outputs[0].dims == Integers({2, 1}) && Numbers<float>(result.outputs[0]) == Floats({5, 9}));
}

TEST(merge_runs_through_the_interface) {
  const FakeResult result = FakeOrt().Run("MemoMerge", MergeInputs());
  CHECK(result.message.empty());
  CHECK(result.outputs[0].dims == Integers({1, 3, 1}) && Numbers<float>(result.outputs[0]) == Floats({7, 9, 0}));
}

TEST(tensors_without_elements_are_not_read) {
  const FakeOrt host;
  const FakeValue none = IntTensor({0}, {});
  const FakeValue one = FloatTensor({}, {1});
  const FakeResult rows = host.Run("MemoRows", {FloatTensor({0, 3, 2}, {}), none, none, HalfTensor({0, 2}, {}),
                                                HalfTensor({0}, {}), none, none, one, one, one});
  CHECK(rows.message.empty() && rows.outputs[2].dims == Integers({0}) && rows.outputs[3].bytes[0] == 0);
  CHECK(host.Run("MemoGrow", {FloatTensor({0, 2}, {}), none, FloatTensor({0, 3}, {}), FloatTensor({0, 3}, {}), none,
                              none, HalfTensor({0, 2}, {}), HalfTensor({0}, {}), none, none, one,
                              FloatTensor({2, 2}, Floats(4)), HalfTensor({0}, {})})
            .message.empty());
  CHECK(host.Run("MemoAttention", {FloatTensor({2, 0, 4}, {}), FloatTensor({2, 4, 0}, {}), FloatTensor({2, 0, 4}, {}),
                                   none, none, none, IntTensor({1}, {3}), HalfTensor({0, 8}, {}),
                                   HalfTensor({0, 8}, {}), none, one, FloatTensor({0, 2, 3, 3}, {})})
            .message.empty());
  const FakeResult none_run = host.Run(
      "MemoRowsAttention", {FloatTensor({0, 8}, {}), IntTensor({3}, {2, 1, 2}), none, none, none, IntTensor({1}, {3}),
                            HalfTensor({0, 2}, {}), HalfTensor({0, 4}, {}), none, one, FloatTensor({0, 2, 3, 3}, {})});
  CHECK(none_run.message.empty() && none_run.outputs[0].dims == Integers({0, 4}));
  CHECK(host.Run("MemoMerge", {FloatTensor({0, 2}, {}), FloatTensor({0, 2}, {}), none, none, none, IntTensor({1}, {3}),
                               FloatTensor({0, 2}, {}), HalfTensor({0}, {}), none, none})
            .message.empty());
  const FakeResult none_attend =
      host.Run("MemoSelfAttention", {FloatTensor({0, 8}, {}), IntTensor({3}, {2, 1, 2}), none, none,
                                     IntTensor({1}, {0}), one, FloatTensor({0, 2, 0, 0}, {})});
  CHECK(none_attend.message.empty() && none_attend.outputs[0].dims == Integers({0, 4}));
  CHECK(host.Run("MemoLookup", {FloatTensor({2, 1}, {1, 2}), IntTensor({2}, {2, 3}), FloatTensor({1, 0}, {}),
                                IntTensor({0}, {}), FloatTensor({}, {1}), ByteTensor({})})
            .message.empty());
  CHECK(host.Run("MemoFetch", {IntTensor({1}, {-1}), HalfTensor({0, 2}, {}), IntTensor({0}, {}), IntTensor({0}, {}),
                               IntTensor({1}, {3})})
            .message.empty());
  CHECK(host.Run("MemoContext", {IntTensor({0}, {}), FloatTensor({0, 3, 4}, {}), HalfTensor({0, 2}, {}),
                                 IntTensor({0}, {}), IntTensor({0}, {})})
            .message.empty());
}

std::string Refusal(const char* name, Inputs inputs, std::size_t index, FakeValue replacement) {
  inputs[index] = std::move(replacement);
  const FakeResult result = FakeOrt().Run(name, inputs);
  CHECK(result.code == ort::ErrorCode::kInvalidArgument);
  CHECK_SAYS(result.message, std::string(name) + ": ");
  return result.message;
}

TEST(refusals_name_operator_input_and_what_was_found) {
  CHECK_SAYS(Refusal("MemoLookup", LookupInputs(), 0, FloatTensor({2, 2}, {1, 2, 3, 4})),
             "'query' is 2 wide and 'keys' 1");
  CHECK_SAYS(Refusal("MemoLookup", LookupInputs(), 0, FloatTensor({2, 1, 1}, {1, 2})), "'query' has shape [2, 1, 1]");
  CHECK_SAYS(Refusal("MemoLookup", LookupInputs(), 1, IntTensor({3}, {2, 2, 2})),
             "'query' holds 2 rows and 'length' 3");
  CHECK_SAYS(Refusal("MemoLookup", LookupInputs(), 2, HalfTensor({1, 3}, {0, 0, 0})), "'keys' has element type 10");
  CHECK_SAYS(Refusal("MemoLookup", LookupInputs(), 4, FloatTensor({2}, {1, 2})), "'threshold' has shape [2]");
  CHECK_SAYS(Refusal("MemoLookup", LookupInputs(), 5, ByteTensor({1, 2, 3})), "no whole number of nodes of 24 bytes");
  CHECK_SAYS(Refusal("MemoFetch", FetchInputs(), 0, IntTensor({1}, {1})), "entry 1 does not exist");
  CHECK_SAYS(Refusal("MemoFetch", FetchInputs(), 4, IntTensor({1}, {-1})), "'padded_length' is -1");
  CHECK_SAYS(Refusal("MemoFetch", FetchInputs(), 4, IntTensor({0}, {})), "'padded_length' has shape [0]");
  CHECK_SAYS(Refusal("MemoFetch", FetchInputs(), 4, IntTensor({1}, {std::numeric_limits<std::int64_t>::max()})),
             "too large");
  CHECK_SAYS(Refusal("MemoContext", ContextInputs(), 2, HalfTensor({4, 0}, {})), "no heads");
  CHECK_SAYS(Refusal("MemoRows", RowsInputs(), 1, IntTensor({1}, {1})), "entry 1 does not exist");
  CHECK_SAYS(Refusal("MemoRows", RowsInputs(), 4, HalfTensor({3}, {0, 0, 0})), "owns 4 of 'influence'");
  CHECK_SAYS(Refusal("MemoRows", RowsInputs(), 8, FloatTensor({2}, {0, 0})), "'bound' has shape [2]");
  CHECK_SAYS(Refusal("MemoGrow", GrowInputs(), 1, IntTensor({1}, {2})), "token 2 of sequence 0");
  CHECK_SAYS(Refusal("MemoGrow", GrowInputs(), 2, FloatTensor({1, 1}, {0})), "padded to 1");
  CHECK_SAYS(Refusal("MemoGrow", GrowInputs(), 10, FloatTensor({2}, {0, 0})), "'bound' has shape [2]");
  CHECK_SAYS(Refusal("MemoGrow", GrowInputs(), 12, HalfTensor({3}, {0, 0, 0})), "owns 4 of 'rollout'");
  CHECK_SAYS(Refusal("MemoAttention", AttentionInputs(), 3, IntTensor({1}, {2})), "token 2 of sequence 0");
  CHECK_SAYS(Refusal("MemoAttention", AttentionInputs(), 6, IntTensor({1}, {1})), "padded to 1");
  CHECK_SAYS(Refusal("MemoAttention", AttentionInputs(), 10, FloatTensor({0}, {})), "'scale' has shape [0]");
  CHECK_SAYS(Refusal("MemoAttention", AttentionInputs(), 11, FloatTensor({3}, {0, 0, 0})), "'bias' has shape [3]");
  CHECK_SAYS(Refusal("MemoRowsAttention", RowsAttentionInputs(), 1, IntTensor({3}, {1, 1, 2})), "give 4");
  CHECK_SAYS(Refusal("MemoRowsAttention", RowsAttentionInputs(), 2, IntTensor({1}, {2})), "token 2 of sequence 0");
  CHECK_SAYS(Refusal("MemoRowsAttention", RowsAttentionInputs(), 6, HalfTensor({1, 1}, {0})), "'values' does not fit");
  CHECK_SAYS(Refusal("MemoSelfAttention", SelfAttentionInputs(), 1, IntTensor({0}, {})), "'heads' holds 0 numbers");
  CHECK_SAYS(Refusal("MemoSelfAttention", SelfAttentionInputs(), 4, IntTensor({2}, {2, 2})), "has shape [2]");
  CHECK_SAYS(Refusal("MemoMerge", MergeInputs(), 5, IntTensor({}, {-1})), "'padded_length' is -1");
  CHECK_SAYS(Refusal("MemoMerge", MergeInputs(), 6, FloatTensor({1, 1}, {5})), "owns 2 of 'final'");
}

TEST(a_status_of_the_host_is_handed_on) {
  Inputs inputs = FetchInputs();
  inputs[4] = IntTensor({1}, {std::int64_t{1} << 40});
  const FakeResult result = FakeOrt().Run("MemoFetch", inputs);
  CHECK(result.code == ort::ErrorCode::kFail && result.message == "the output is too large");
}

// 16 rows of 64 tokens and 4 heads of 32: enough work for threads.
TEST(large_requests_use_the_threads_of_the_session) {
  std::mt19937 random(1);
  const Integers entry(16, 0);
  const Inputs context = {IntTensor({16}, entry), FloatTensor({16, 64, 128}, RandomFloats(random, 16 * 64 * 128)),
                          HalfTensor({4096, 4}, Halves(4096 * 4, 0x2400)), IntTensor({1}, {0}), IntTensor({1}, {64})};
  const Inputs fetch = {IntTensor({16}, entry), HalfTensor({256, 256}, Halves(256 * 256, 0x3C00)), IntTensor({1}, {0}),
                        IntTensor({1}, {256}), IntTensor({1}, {256})};
  const int before = ParallelCalls();
  const FakeResult context_result = FakeOrt().Run("MemoContext", context);
  CHECK(ParallelCalls() == before + 1);
  const FakeResult fetch_result = FakeOrt().Run("MemoFetch", fetch);
  CHECK(ParallelCalls() == before + 2);
  CHECK(Numbers<float>(fetch_result.outputs[0]) == Floats(16 * 256 * 256, 1.0F));
  CHECK(context_result.message.empty());
  FakeOrt().Run("MemoContext", ContextInputs());
  CHECK(ParallelCalls() == before + 2);
}

// 16 sequences of 64 tokens and 4 heads of 32, of which the last token runs.
TEST(large_requests_of_rows_use_the_threads_of_the_session) {
  const Integers entry(16, 0);
  const Integers length(16, 64);
  Integers rows;
  for (std::int64_t b = 0; b < 16; ++b) rows.push_back(b * 64 + 63);
  Floats states(16 * 64 * 256, 1.0F);
  for (const std::int64_t row : rows) states[Size(row) * 256] = 2.0F;
  const FakeValue zero = IntTensor({1}, {0});
  const FakeValue stored = HalfTensor({64, 128}, Halves(64 * 128, 0x3C00));
  const FakeValue influence = HalfTensor({64 * 64}, Halves(64 * 64, 0x0000));
  const FakeValue ones = FloatTensor({16, 128}, Floats(16 * 128, 1.0F));
  const FakeValue heads = FloatTensor({4, 16, 32}, Floats(16 * 128, 1.0F));

  int before = ParallelCalls();
  const FakeResult chosen =
      FakeOrt().Run("MemoRows", {FloatTensor({16, 64, 256}, states), IntTensor({16}, entry), IntTensor({16}, length),
                                 HalfTensor({64, 256}, Halves(64 * 256, 0x3C00)), influence, zero, zero,
                                 FloatTensor({}, {0.01F}), FloatTensor({}, {0.0F}), FloatTensor({}, {1.0F})});
  CHECK(Numbers<std::int64_t>(chosen.outputs[0]) == rows);
  CHECK(ParallelCalls() == before + 1);

  before = ParallelCalls();
  const FakeValue known = FloatTensor({16, 64}, Floats(16 * 64, 1.0F));
  const FakeResult grown =
      FakeOrt().Run("MemoGrow", {ones, IntTensor({16}, rows), known, known, IntTensor({16}, entry),
                                 IntTensor({16}, length), stored, influence, zero, zero, FloatTensor({}, {-1.0F}),
                                 FloatTensor({128, 128}, Floats(128 * 128, 1.0F)), influence});
  CHECK(Numbers<float>(grown.outputs[0]) == Floats(16 * 64 * 128, 1.0F));
  CHECK(ParallelCalls() == before + 1);

  before = ParallelCalls();
  const FakeResult context = FakeOrt().Run(
      "MemoAttention", {heads, FloatTensor({4, 32, 16}, Floats(16 * 128, 1.0F)), heads, IntTensor({16}, rows),
                        IntTensor({16}, entry), IntTensor({16}, length), IntTensor({}, {64}), stored, stored, zero,
                        FloatTensor({}, {1.0F}), FloatTensor({1, 1, 1, 1}, {0.0F})});
  for (const float x : Numbers<float>(context.outputs[0])) CHECK(x > 0.9999F && x < 1.0001F);
  CHECK(ParallelCalls() == before + 1);

  before = ParallelCalls();
  const FakeResult side_by_side = FakeOrt().Run(
      "MemoRowsAttention", {FloatTensor({16, 384}, Floats(16 * 384, 1.0F)), IntTensor({3}, {4, 32, 32}),
                            IntTensor({16}, rows), IntTensor({16}, entry), IntTensor({16}, length), IntTensor({}, {64}),
                            stored, stored, zero, FloatTensor({}, {1.0F}), FloatTensor({1, 1, 1, 1}, {0.0F})});
  for (const float x : Numbers<float>(side_by_side.outputs[0])) CHECK(x > 0.9999F && x < 1.0001F);
  CHECK(ParallelCalls() == before + 1);

  before = ParallelCalls();
  const FakeResult merged = FakeOrt().Run(
      "MemoMerge", {ones, ones, IntTensor({16}, rows), IntTensor({16}, entry), IntTensor({16}, length),
                    IntTensor({}, {64}), FloatTensor({64, 128}, Floats(64 * 128, 1.0F)), influence, zero, zero});
  CHECK(Numbers<float>(merged.outputs[0]) == Floats(16 * 64 * 128, 1.0F));
  CHECK(ParallelCalls() == before + 1);
}

// 128 tokens, 4 heads of 32.
TEST(large_self_attention_uses_the_threads_of_the_session) {
  Integers rows(128);
  for (std::size_t r = 0; r < rows.size(); ++r) rows[r] = static_cast<std::int64_t>(r);
  const int before = ParallelCalls();
  const FakeResult context =
      FakeOrt().Run("MemoSelfAttention", {FloatTensor({128, 384}, Floats(128 * 384, 1.0F)), IntTensor({3}, {4, 32, 32}),
                                          IntTensor({128}, rows), IntTensor({128}, rows), IntTensor({}, {128}),
                                          FloatTensor({}, {1.0F}), FloatTensor({1, 1, 1, 1}, {0.0F})});
  CHECK(ParallelCalls() == before + 1);
  CHECK(Numbers<float>(context.outputs[0]) == Floats(128 * 128, 1.0F));
}

TEST(one_kernel_serves_eight_threads) {
  const FakeOrt host;
  std::mt19937 random(2);
  const Integers lengths(2500, 4);
  const Floats keys = RandomFloats(random, 3 * 2500);
  const Inputs inputs = {FloatTensor({4, 3}, RandomFloats(random, 12)),
                         IntTensor({4}, {4, 4, 4, 4}),
                         FloatTensor({3, 2500}, keys),
                         IntTensor({2500}, lengths),
                         FloatTensor({}, {100.0F}),
                         ByteTensor(BuildStoreIndex(keys, 3, lengths, 4))};
  const Integers expected = Numbers<std::int64_t>(host.Run("MemoLookup", inputs).outputs[0]);
  for (int round = 0; round < 20; ++round) {
    const ort::CustomOp* op = host.Find("MemoLookup");
    void* kernel = host.CreateKernel(op);
    std::vector<std::thread> threads;
    std::vector<int> right(8);
    for (int& count : right) {
      threads.emplace_back([&, result = &count] {
        for (int i = 0; i < 5; ++i)
          *result += Numbers<std::int64_t>(FakeOrt::Run(op, kernel, inputs).outputs[0]) == expected;
      });
    }
    for (std::thread& thread : threads) thread.join();
    op->KernelDestroy(kernel);
    CHECK(right == std::vector<int>(8, 5));
  }
}

}  // namespace
}  // namespace onnx_memo::testing
