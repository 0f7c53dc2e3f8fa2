// Calls of ONNX Runtime's interface, as C++ has them: failures are exceptions.
#pragma once

#include <cstdint>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "abi/onnxruntime.h"

namespace gatewave::library {

// A failure that ONNX Runtime reported itself: its status, handed on as it is.
struct Reported {
  abi::Status* status;
};

// The caller's fault.
struct Invalid : std::runtime_error {
  using runtime_error::runtime_error;
};

class Runtime {
 public:
  explicit Runtime(const abi::Api* api) : api_(api) {}

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

  // What `work` does, with exceptions turned into statuses.
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
};

// The lengths of a tensor's axes.
class Shape {
 public:
  Shape(const Runtime& runtime, const abi::Value* tensor);

  const std::int64_t* data() const { return rank_ <= few ? lengths_ : more_.data(); }
  std::size_t rank() const { return rank_; }
  std::int64_t element_count() const;
  std::string text() const;

  bool operator==(const Shape& other) const;

 private:
  static constexpr std::size_t few = 8;
  std::size_t rank_ = 0;
  std::int64_t lengths_[few] = {};
  std::vector<std::int64_t> more_;
};

}  // namespace gatewave::library
