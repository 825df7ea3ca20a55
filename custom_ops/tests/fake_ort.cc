// A stand-in for ONNX Runtime: just enough of its function table to run one operator.
#include "tests/fake_ort.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <stdexcept>
#include <thread>

extern "C" onnx_memo::ort::Status* ONNX_MEMO_ORT_CALL RegisterCustomOps(onnx_memo::ort::SessionOptions*,
                                                                        const onnx_memo::ort::ApiBase*);

// The opaque types of ort_abi.h, as this stand-in fills them.
namespace onnx_memo::ort {

struct Status {
  ErrorCode code;
  std::string message;
};

struct CustomOpDomain {
  std::string name;
  std::vector<const CustomOp*> operators;
};

struct SessionOptions {
  std::vector<CustomOpDomain*> domains;
};

struct KernelContext {
  const std::vector<testing::FakeValue>* inputs;
  std::vector<testing::FakeValue> outputs;
};

}  // namespace onnx_memo::ort

namespace onnx_memo::testing {
namespace {

using ort::Status;

// Tensors and their type information are the FakeValue itself.
const FakeValue* AsFake(const void* value) { return static_cast<const FakeValue*>(value); }

std::atomic<int> parallel_calls{0};

Status* CreateStatus(ort::ErrorCode code, const char* message) { return new Status{code, message}; }

Status* CreateDomain(const char* name, ort::CustomOpDomain** domain) {
  *domain = new ort::CustomOpDomain{name, {}};
  return nullptr;
}

Status* AddOperator(ort::CustomOpDomain* domain, const ort::CustomOp* op) {
  domain->operators.push_back(op);
  return nullptr;
}

Status* AddDomain(ort::SessionOptions* options, ort::CustomOpDomain* domain) {
  options->domains.push_back(domain);
  return nullptr;
}

void ReleaseDomain(ort::CustomOpDomain* domain) { delete domain; }

// As ONNX Runtime does: an arbitrary pointer for a tensor without elements.
Status* GetData(ort::Value* value, void** data) {
  auto* fake = reinterpret_cast<FakeValue*>(value);
  *data = fake->bytes.empty() ? reinterpret_cast<void*>(0x10) : fake->bytes.data();
  return nullptr;
}

Status* GetType(const ort::TensorInfo* info, ort::ElementType* type) {
  *type = AsFake(info)->type;
  return nullptr;
}

Status* GetRank(const ort::TensorInfo* info, std::size_t* rank) {
  *rank = AsFake(info)->dims.size();
  return nullptr;
}

Status* GetDims(const ort::TensorInfo* info, std::int64_t* dims, std::size_t count) {
  std::copy_n(AsFake(info)->dims.begin(), count, dims);
  return nullptr;
}

// A copy, so that a sanitizer reports one that is not released.
Status* GetInfo(const ort::Value* value, ort::TensorInfo** info) {
  *info = reinterpret_cast<ort::TensorInfo*>(new FakeValue(*AsFake(value)));
  return nullptr;
}

void ReleaseInfo(ort::TensorInfo* info) { delete AsFake(info); }

Status* GetInput(const ort::KernelContext* context, std::size_t index, const ort::Value** value) {
  *value = reinterpret_cast<const ort::Value*>(&context->inputs->at(index));
  return nullptr;
}

// Exactly the bytes that the elements need, so that a sanitizer reports any write beyond.
Status* GetOutput(ort::KernelContext* context, std::size_t index, const std::int64_t* dims, std::size_t rank,
                  ort::Value** value) {
  FakeValue& output = context->outputs.at(index);
  const bool empty = std::find(dims, dims + rank, 0) != dims + rank;
  auto bytes = empty ? 0 : static_cast<std::int64_t>(ElementSize(output.type));
  for (std::size_t i = 0; i < rank; ++i) {
    if (!empty && bytes > kMostBytes / dims[i]) {
      return CreateStatus(ort::ErrorCode::kFail, "the output is too large");
    }
    bytes *= dims[i];
  }
  output.dims.assign(dims, dims + rank);
  output.bytes = std::vector<unsigned char>(static_cast<std::size_t>(bytes), 0xCC);
  *value = reinterpret_cast<ort::Value*>(&output);
  return nullptr;
}

Status* ParallelFor(const ort::KernelContext*, ort::Task task, std::size_t total, std::size_t, void* user_data) {
  ++parallel_calls;
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < total; i = next++) task(user_data, i);
  };
  std::thread other(work);
  work();
  other.join();
  return nullptr;
}

struct Table {
  std::array<void (*)(), 275> functions{};

  template <typename Slot>
  void Set(typename Slot::Function function) {
    functions[Slot::kNumber] = reinterpret_cast<void (*)()>(function);
  }

  Table() {
    Set<ort::CreateStatus>(&CreateStatus);
    Set<ort::CreateCustomOpDomain>(&CreateDomain);
    Set<ort::CustomOpDomainAdd>(&AddOperator);
    Set<ort::AddCustomOpDomain>(&AddDomain);
    Set<ort::GetTensorMutableData>(&GetData);
    Set<ort::GetTensorElementType>(&GetType);
    Set<ort::GetDimensionsCount>(&GetRank);
    Set<ort::GetDimensions>(&GetDims);
    Set<ort::GetTensorTypeAndShape>(&GetInfo);
    Set<ort::KernelContextGetInput>(&GetInput);
    Set<ort::KernelContextGetOutput>(&GetOutput);
    Set<ort::ReleaseTensorInfo>(&ReleaseInfo);
    Set<ort::ReleaseCustomOpDomain>(&ReleaseDomain);
    Set<ort::KernelContextParallelFor>(&ParallelFor);
  }
};

const ort::Api* TheApi() {
  static const Table table;
  return reinterpret_cast<const ort::Api*>(table.functions.data());
}

std::uint32_t newest_version = 17;

const ort::Api* GetApi(std::uint32_t version) { return version <= newest_version ? TheApi() : nullptr; }

const char* GetVersionString() { return "1.16.3"; }

const ort::ApiBase kBase = {&GetApi, &GetVersionString};

FakeResult Take(Status* status) {
  if (status == nullptr) return {};
  FakeResult result{status->code, status->message, {}};
  delete status;
  return result;
}

}  // namespace

std::size_t ElementSize(ort::ElementType type) {
  switch (type) {
    case ort::ElementType::kUint8:
    case ort::ElementType::kInt8:
    case ort::ElementType::kBool:
      return 1;
    case ort::ElementType::kFloat16:
      return 2;
    case ort::ElementType::kFloat:
    case ort::ElementType::kInt32:
      return 4;
    default:
      return 8;
  }
}

FakeOrt::FakeOrt() {
  ort::SessionOptions options;
  const FakeResult result = Take(RegisterCustomOps(&options, &kBase));
  if (!result.message.empty()) throw std::runtime_error(result.message);
  if (options.domains.size() != 1 || options.domains[0]->name != "onnx_memo") throw std::runtime_error("wrong domain");
  operators_ = options.domains[0]->operators;
}

const ort::CustomOp* FakeOrt::Find(const char* name) const {
  for (const ort::CustomOp* op : operators_) {
    if (std::strcmp(op->GetName(op), name) == 0) return op;
  }
  throw std::runtime_error(std::string("no operator ") + name);
}

void* FakeOrt::CreateKernel(const ort::CustomOp* op) const {
  void* kernel = nullptr;
  const FakeResult result = Take(op->CreateKernelV2(op, TheApi(), nullptr, &kernel));
  if (!result.message.empty()) throw std::runtime_error(result.message);
  return kernel;
}

FakeResult FakeOrt::Run(const ort::CustomOp* op, void* kernel, const std::vector<FakeValue>& inputs) {
  ort::KernelContext context{&inputs, {}};
  for (std::size_t i = 0; i < op->GetOutputTypeCount(op); ++i) {
    context.outputs.push_back({op->GetOutputType(op, i), {}, {}});
  }
  FakeResult result = Take(op->KernelComputeV2(kernel, &context));
  result.outputs = std::move(context.outputs);
  return result;
}

FakeResult FakeOrt::Run(const char* name, const std::vector<FakeValue>& inputs) const {
  const ort::CustomOp* op = Find(name);
  void* kernel = CreateKernel(op);
  FakeResult result = Run(op, kernel, inputs);
  op->KernelDestroy(kernel);
  return result;
}

std::string RegistrationMessage(std::uint32_t version) {
  newest_version = version;
  ort::SessionOptions options;
  const FakeResult result = Take(RegisterCustomOps(&options, &kBase));
  newest_version = 17;
  return result.message;
}

int ParallelCalls() { return parallel_calls; }

}  // namespace onnx_memo::testing
