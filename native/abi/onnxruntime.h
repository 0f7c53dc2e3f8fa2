// Part of ONNX Runtime's C interface that custom operators need. The wheels contain no headers.
//
// Contract: OrtApi is a table of functions to which versions only append, so the index of a
// function never changes. This file states the index and signature of each function. GetApi(17)
// requests the oldest table with all of them (ONNX Runtime 1.17); an older runtime returns null,
// and registration fails with a message. Functions of later versions are listed separately, and
// called only if the runtime has that version. OrtCustomOp grows in the same way: its first member
// is its version. No memory is allocated on one side and freed on the other, except for statuses,
// which ONNX Runtime allocates and frees.
//
// Source: onnxruntime_c_api.h of ONNX Runtime; tests load the library in versions 1.20 to 1.32.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef _WIN32
#define GATEWAVE_ORT_CALL __stdcall
#else
#define GATEWAVE_ORT_CALL
#endif

namespace gatewave::abi {

inline constexpr std::uint32_t version = 17;
inline constexpr const char* oldest_release = "1.17";

// Since this version a tensor lends its shape. Earlier versions return a copy.
inline constexpr int lending_version = 24;

// Opaque types of ONNX Runtime.
struct Status;
struct SessionOptions;
struct CustomOpDomain;
struct KernelInfo;
struct KernelContext;
struct ShapeInferContext;
struct Value;
struct TensorInfo;

enum class ErrorCode : int { fail = 1, invalid_argument = 2 };
enum class ElementType : int { float32 = 1, uint8 = 2, float16 = 10, float64 = 11, bfloat16 = 16 };
enum class Characteristic : int { required = 0 };
enum class MemoryType : int { cpu_input = -2, standard = 0 };

// A function of OrtApi: its index and type.
template <std::size_t place_, class Signature>
struct Function;

template <std::size_t place_, class Result, class... Parameters>
struct Function<place_, Result(Parameters...)> {
  static constexpr std::size_t place = place_;
  using Pointer = Result(GATEWAVE_ORT_CALL*)(Parameters...);
};

using CreateStatus = Function<0, Status*(ErrorCode, const char*)>;
using CreateCustomOpDomain = Function<26, Status*(const char*, CustomOpDomain**)>;
using CustomOpDomainAdd = Function<27, Status*(CustomOpDomain*, const struct CustomOp*)>;
using AddCustomOpDomain = Function<28, Status*(SessionOptions*, CustomOpDomain*)>;
using GetTensorMutableData = Function<51, Status*(Value*, void**)>;
using GetDimensionsCount = Function<61, Status*(const TensorInfo*, std::size_t*)>;
using GetDimensions = Function<62, Status*(const TensorInfo*, std::int64_t*, std::size_t)>;
using GetSymbolicDimensions = Function<63, Status*(const TensorInfo*, const char**, std::size_t)>;
using GetTensorTypeAndShape = Function<65, Status*(const Value*, TensorInfo**)>;
using KernelContextGetInput =
    Function<90, Status*(const KernelContext*, std::size_t, const Value**)>;
using KernelContextGetOutput =
    Function<91, Status*(KernelContext*, std::size_t, const std::int64_t*, std::size_t, Value**)>;
using ReleaseStatus = Function<93, void(Status*)>;
using ReleaseTensorTypeAndShapeInfo = Function<99, void(TensorInfo*)>;
using KernelContextGetGPUComputeStream = Function<193, Status*(const KernelContext*, void**)>;
using HasSessionConfigEntry = Function<237, Status*(const SessionOptions*, const char*, int*)>;
using GetSessionConfigEntry =
    Function<238, Status*(const SessionOptions*, const char*, char*, std::size_t*)>;
using ShapeInferContextGetInputTypeShape =
    Function<268, Status*(const ShapeInferContext*, std::size_t, TensorInfo**)>;
using ShapeInferContextSetOutputTypeShape =
    Function<270, Status*(const ShapeInferContext*, std::size_t, const TensorInfo*)>;
using KernelContextParallelFor =
    Function<274, Status*(const KernelContext*, void (*)(void*, std::size_t), std::size_t,
                          std::size_t, void*)>;

// Available since `lending_version`.
using GetTensorElementTypeAndShapeDataReference =
    Function<414,
             Status*(const Value*, ElementType*, const std::int64_t** lengths, std::size_t* rank)>;

// The table. In runtimes before `lending_version` it ends before the last function.
class Api {
 public:
  template <class F, class... Arguments>
  auto call(Arguments... arguments) const {
    return reinterpret_cast<typename F::Pointer>(table_[F::place])(arguments...);
  }

 private:
  using Any = void (*)();
  Any table_[GetTensorElementTypeAndShapeDataReference::place + 1];
};

struct ApiBase {
  const Api*(GATEWAVE_ORT_CALL* get_api)(std::uint32_t version);
  const char*(GATEWAVE_ORT_CALL* get_version_string)();
};

// Callbacks of a custom operator. The members named `unused` are for other kinds of operators, or
// obsolete.
struct CustomOp {
  std::uint32_t version;
  void* unused_create_kernel;
  const char*(GATEWAVE_ORT_CALL* get_name)(const CustomOp*);
  const char*(GATEWAVE_ORT_CALL* get_execution_provider)(const CustomOp*);
  ElementType(GATEWAVE_ORT_CALL* get_input_type)(const CustomOp*, std::size_t);
  std::size_t(GATEWAVE_ORT_CALL* get_input_count)(const CustomOp*);
  ElementType(GATEWAVE_ORT_CALL* get_output_type)(const CustomOp*, std::size_t);
  std::size_t(GATEWAVE_ORT_CALL* get_output_count)(const CustomOp*);
  void* unused_compute;
  void(GATEWAVE_ORT_CALL* destroy_kernel)(void* kernel);
  Characteristic(GATEWAVE_ORT_CALL* get_input_characteristic)(const CustomOp*, std::size_t);
  Characteristic(GATEWAVE_ORT_CALL* get_output_characteristic)(const CustomOp*, std::size_t);
  MemoryType(GATEWAVE_ORT_CALL* get_input_memory_type)(const CustomOp*, std::size_t);
  void* unused_variadic[4];
  Status*(GATEWAVE_ORT_CALL* create_kernel)(const CustomOp*, const Api*, const KernelInfo*,
                                            void** kernel);
  Status*(GATEWAVE_ORT_CALL* compute)(void* kernel, KernelContext*);
  Status*(GATEWAVE_ORT_CALL* infer_output_shape)(const CustomOp*, ShapeInferContext*);
  int(GATEWAVE_ORT_CALL* get_start_version)(const CustomOp*);
  int(GATEWAVE_ORT_CALL* get_end_version)(const CustomOp*);
};

}  // namespace gatewave::abi
