// C++ wrapper of ONNX Runtime's C interface: failures become exceptions.
#pragma once

#include <cstdint>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "abi/onnxruntime.h"

namespace gatewave::library {

// A failure reported by ONNX Runtime. Its status is passed on unchanged.
struct Reported {
  abi::Status* status;
};

// An error of the caller.
struct Invalid : std::runtime_error {
  using runtime_error::runtime_error;
};

class Runtime {
 public:
  explicit Runtime(const abi::Api* api, bool lends_shapes = false)
      : api_(api), lends_shapes_(lends_shapes) {}

  bool operator==(const Runtime&) const = default;

  // True if this version has GetTensorElementTypeAndShapeDataReference.
  bool lends_shapes() const { return lends_shapes_; }

  template <class F, class... Arguments>
  void call(Arguments... arguments) const {
    if (abi::Status* status = api_->call<F>(arguments...)) throw Reported{status};
  }

  template <class F, class Result, class... Arguments>
  Result get(Arguments... arguments) const {
    Result result{};
    call<F>(arguments..., &result);
    return result;
  }

  template <class F, class... Arguments>
  void release(Arguments... arguments) const {
    api_->call<F>(arguments...);
  }

  // Runs `work`, and turns exceptions into statuses.
  template <class Work>
  abi::Status* guarded(Work&& work) const noexcept {
    try {
      work();
      return nullptr;
    } catch (const Reported& failure) {
      return failure.status;
    } catch (const Invalid& failure) {
      return status(abi::ErrorCode::invalid_argument, failure.what());
    } catch (const std::exception& failure) {
      return status(abi::ErrorCode::fail, failure.what());
    } catch (...) {
      return status(abi::ErrorCode::fail, "Gatewave's kernels failed for an unknown reason");
    }
  }

  abi::Status* status(abi::ErrorCode code, const char* message) const {
    return api_->call<abi::CreateStatus>(code, message);
  }

 private:
  const abi::Api* api_;
  bool lends_shapes_;
};

// Shape of a tensor. It must not outlive the tensor.
class Shape {
 public:
  Shape(const Runtime& runtime, const abi::Value* tensor);
  Shape(const Shape&) = delete;
  Shape& operator=(const Shape&) = delete;

  const std::int64_t* data() const { return data_; }
  std::size_t rank() const { return rank_; }
  std::int64_t element_count() const;
  std::string text() const;

  bool operator==(const Shape& other) const;

 private:
  void copy(const Runtime& runtime, const abi::Value* tensor);

  const std::int64_t* data_ = nullptr;
  std::size_t rank_ = 0;
  std::vector<std::int64_t> copy_;  // empty if the tensor lends its shape
};

}  // namespace gatewave::library
