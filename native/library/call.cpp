#include "library/call.h"

#include <algorithm>

namespace gatewave::library {

Shape::Shape(const Runtime& runtime, const abi::Value* tensor) {
  if (runtime.lends_shapes()) {
    abi::ElementType type{};
    runtime.call<abi::GetTensorElementTypeAndShapeDataReference>(tensor, &type, &data_, &rank_);
  } else {
    copy(runtime, tensor);
  }
}

void Shape::copy(const Runtime& runtime, const abi::Value* tensor) {
  auto* info = runtime.get<abi::GetTensorTypeAndShape, abi::TensorInfo*>(tensor);
  struct Release {
    const Runtime& runtime;
    abi::TensorInfo* info;
    ~Release() { runtime.release<abi::ReleaseTensorTypeAndShapeInfo>(info); }
  } const release{runtime, info};
  rank_ = runtime.get<abi::GetDimensionsCount, std::size_t>(info);
  copy_.resize(rank_);
  runtime.call<abi::GetDimensions>(info, copy_.data(), rank_);
  data_ = copy_.data();
}

std::int64_t Shape::element_count() const {
  std::int64_t count = 1;
  for (std::size_t axis = 0; axis < rank_; ++axis) count *= data()[axis];
  return count;
}

std::string Shape::text() const {
  std::string text = "[";
  for (std::size_t axis = 0; axis < rank_; ++axis) {
    text += (axis ? ", " : "") + std::to_string(data()[axis]);
  }
  return text + "]";
}

bool Shape::operator==(const Shape& other) const {
  return std::equal(data(), data() + rank_, other.data(), other.data() + other.rank_);
}

}  // namespace gatewave::library
