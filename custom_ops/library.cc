// What the library exports: it registers the operators of the domain `onnx_memo` with ONNX Runtime, and maps memory.
#include <atomic>
#include <mutex>
#include <utility>
#include <vector>

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
#include "ort/mapped_memory.h"
#include "ort/operator.h"
#include "ort/ort_abi.h"

#ifdef _WIN32
#define ONNX_MEMO_EXPORT __declspec(dllexport)
#else
#define ONNX_MEMO_EXPORT __attribute__((visibility("default")))
#endif

namespace onnx_memo {
namespace {

constexpr const char* kDomain = "onnx_memo";

std::atomic<const ort::Api*> latest{nullptr};  // whose sessions take the operators

ort::CustomOpDomain* CreateDomain(const ort::Api* api) {
  ort::CustomOpDomain* domain = nullptr;
  Check(ort::CreateCustomOpDomain::Call(api, kDomain, &domain));
  try {
    Check(ort::CustomOpDomainAdd::Call(api, domain, Operator<MemoSegments>::Table()));
    Check(ort::CustomOpDomainAdd::Call(api, domain, Operator<MemoLookup>::Table()));
    Check(ort::CustomOpDomainAdd::Call(api, domain, Operator<MemoFetch>::Table()));
    Check(ort::CustomOpDomainAdd::Call(api, domain, Operator<MemoContext>::Table()));
    Check(ort::CustomOpDomainAdd::Call(api, domain, Operator<MemoRows>::Table()));
    Check(ort::CustomOpDomainAdd::Call(api, domain, Operator<MemoGrow>::Table()));
    Check(ort::CustomOpDomainAdd::Call(api, domain, Operator<MemoAttention>::Table()));
    Check(ort::CustomOpDomainAdd::Call(api, domain, Operator<MemoRowsAttention>::Table()));
    Check(ort::CustomOpDomainAdd::Call(api, domain, Operator<MemoMerge>::Table()));
    Check(ort::CustomOpDomainAdd::Call(api, domain, Operator<MemoExact>::Table()));
    Check(ort::CustomOpDomainAdd::Call(api, domain, Operator<MemoProduct>::Table()));
    Check(ort::CustomOpDomainAdd::Call(api, domain, Operator<MemoProductGelu>::Table()));
    Check(ort::CustomOpDomainAdd::Call(api, domain, Operator<MemoProductGeluTanh>::Table()));
    Check(ort::CustomOpDomainAdd::Call(api, domain, Operator<MemoProductRelu>::Table()));
    Check(ort::CustomOpDomainAdd::Call(api, domain, Operator<MemoProductSilu>::Table()));
    Check(ort::CustomOpDomainAdd::Call(api, domain, Operator<MemoProductNorm>::Table()));
    Check(ort::CustomOpDomainAdd::Call(api, domain, Operator<MemoSelfAttention>::Table()));
  } catch (...) {
    ort::ReleaseCustomOpDomain::Call(api, domain);
    throw;
  }
  return domain;
}

// One domain for each ONNX Runtime in the process. It must outlive every session, and nothing tells when the last one
// ends: it stays until the process ends, and so does the list.
ort::CustomOpDomain* SharedDomain(const ort::Api* api) {
  static std::mutex mutex;
  static auto* const domains = new std::vector<std::pair<const ort::Api*, ort::CustomOpDomain*>>();
  const std::lock_guard<std::mutex> lock(mutex);
  for (const auto& [owner, domain] : *domains) {
    if (owner == api) return domain;
  }
  domains->reserve(domains->size() + 1);
  return domains->emplace_back(api, CreateDomain(api)).second;
}

ort::Status* RefuseVersion(const ort::ApiBase* base) noexcept {
  const ort::Api* oldest = base->GetApi(1);
  if (oldest == nullptr) return nullptr;  // no way to say anything; the operators are simply not there
  return Guarded(oldest, kDomain, [&] {
    Refuse("ONNX Runtime ", base->GetVersionString(),
           " is too old for this library; install 1.17 or later, or run the model without the library");
  });
}

}  // namespace
}  // namespace onnx_memo

extern "C" ONNX_MEMO_EXPORT onnx_memo::ort::Status* ONNX_MEMO_ORT_CALL
RegisterCustomOps(onnx_memo::ort::SessionOptions* options, const onnx_memo::ort::ApiBase* base) {
  using namespace onnx_memo;
  const ort::Api* api = base->GetApi(ort::kApiVersion);
  if (api == nullptr) return RefuseVersion(base);
  latest = api;
  return Guarded(api, kDomain, [&] { Check(ort::AddCustomOpDomain::Call(api, options, SharedDomain(api))); });
}

// As `MapMemory`; false as well where no session options were given the library yet. For `onnx_memo/mapped.py`.
extern "C" ONNX_MEMO_EXPORT bool onnx_memo_map_memory(const char* folder) {
  const onnx_memo::ort::Api* api = onnx_memo::latest;
  return api != nullptr && onnx_memo::ort::MapMemory(api, folder);
}
