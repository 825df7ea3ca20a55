// Reads shapes and pointers out of ONNX Runtime's tensors.
#include "ort/context.h"

#include <string>
#include <vector>

namespace onnx_memo {
namespace {

// The element type and shape of a tensor, released on every way out.
class TensorInfo {
 public:
  TensorInfo(const ort::Api* api, const ort::Value* value) : api_(api) {
    Check(ort::GetTensorTypeAndShape::Call(api_, value, &info_));
  }
  ~TensorInfo() { ort::ReleaseTensorInfo::Call(api_, info_); }
  TensorInfo(const TensorInfo&) = delete;
  TensorInfo& operator=(const TensorInfo&) = delete;

  ort::ElementType type() const {
    ort::ElementType type = ort::ElementType::kUndefined;
    Check(ort::GetTensorElementType::Call(api_, info_, &type));
    return type;
  }

  std::size_t rank() const {
    std::size_t rank = 0;
    Check(ort::GetDimensionsCount::Call(api_, info_, &rank));
    return rank;
  }

  void ReadDims(std::int64_t* dims, std::size_t rank) const {
    Check(ort::GetDimensions::Call(api_, info_, dims, rank));
  }

 private:
  const ort::Api* api_;
  ort::TensorInfo* info_ = nullptr;
};

std::string ShapeText(const TensorInfo& info) {
  std::vector<std::int64_t> dims(info.rank());
  info.ReadDims(dims.data(), dims.size());
  std::string text = "[";
  for (const std::int64_t dim : dims) text += (text.size() > 1 ? ", " : "") + std::to_string(dim);
  return text + "]";
}

ort::Value* InputValue(const ort::Api* api, const ort::KernelContext* context, std::size_t index, const char* name) {
  const ort::Value* value = nullptr;
  Check(ort::KernelContextGetInput::Call(api, context, index, &value));
  if (value == nullptr) Refuse("input '", name, "' is missing; connect it");
  return const_cast<ort::Value*>(value);  // the host offers its data pointer only through a mutable value
}

void CheckType(const TensorInfo& info, ort::ElementType type, const char* name) {
  if (info.type() != type) {
    Refuse("input '", name, "' has element type ", static_cast<int>(info.type()), "; give type ",
           static_cast<int>(type), " (numbers of onnx.TensorProto)");
  }
}

}  // namespace

ort::Value* Context::ReadInput(std::size_t index, ort::ElementType type, std::int64_t* dims, std::size_t rank) const {
  const char* const name = inputs_[index].name;
  ort::Value* value = InputValue(api_, context_, index, name);
  const TensorInfo info(api_, value);
  CheckType(info, type, name);
  if (info.rank() != rank) {
    Refuse("input '", name, "' has shape ", ShapeText(info), "; give it ", rank,
           rank == 1 ? " dimension" : " dimensions");
  }
  info.ReadDims(dims, rank);
  return value;
}

ort::Value* Context::ReadRows(std::size_t index, ort::ElementType type, std::vector<std::int64_t>* dims) const {
  const char* const name = inputs_[index].name;
  ort::Value* value = InputValue(api_, context_, index, name);
  const TensorInfo info(api_, value);
  CheckType(info, type, name);
  dims->resize(info.rank());
  if (dims->empty()) Refuse("input '", name, "' is a scalar; give it a dimension");
  info.ReadDims(dims->data(), dims->size());
  return value;
}

void* Context::Allocate(std::size_t index, const std::int64_t* dims, std::size_t rank) const {
  std::int64_t count = 1;
  for (std::size_t i = 0; i < rank; ++i) count = Product(count, dims[i]);
  ort::Value* value = nullptr;
  Check(ort::KernelContextGetOutput::Call(api_, context_, index, dims, rank, &value));
  return count == 0 ? nullptr : Data(value);
}

const void* Context::ReadSingle(std::size_t index, ort::ElementType type) const {
  const char* const name = inputs_[index].name;
  ort::Value* value = InputValue(api_, context_, index, name);
  const TensorInfo info(api_, value);
  CheckType(info, type, name);
  std::int64_t dim = 1;
  if (info.rank() == 1) info.ReadDims(&dim, 1);
  if (info.rank() > 1 || dim != 1) Refuse("input '", name, "' has shape ", ShapeText(info), "; give it one element");
  return Data(value);
}

void* Context::Data(ort::Value* value) const {
  void* data = nullptr;
  Check(ort::GetTensorMutableData::Call(api_, value, &data));
  return data;
}

}  // namespace onnx_memo
