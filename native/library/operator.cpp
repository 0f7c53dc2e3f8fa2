#include "library/operator.h"

#include "library/call.h"

namespace gatewave::library {
namespace {

constexpr const char* suffixes[] = {"", "ValueAndGrad", "VJP"};
constexpr const char* input_names[] = {"the first input", "the second input", "the third input"};

const Operator& self(const abi::CustomOp* op) { return static_cast<const Operator&>(*op); }

abi::ElementType element_type(Type type) {
  switch (type) {
    case Type::float32:
      return abi::ElementType::float32;
    case Type::float64:
      return abi::ElementType::float64;
    case Type::float16:
      return abi::ElementType::float16;
    case Type::bfloat16:
      return abi::ElementType::bfloat16;
  }
  return abi::ElementType::float32;
}

// Instance of an operator in a session.
class Kernel {
 public:
  explicit Kernel(const Operator& op) : op_(op), runtime_(op.runtime) {}

  abi::Status* compute(abi::KernelContext* context) const noexcept {
    return runtime_.guarded([&] { run(context); });
  }

  static abi::Status* create(const Operator& op, void** kernel) noexcept {
    return op.runtime.guarded([&] { *kernel = new Kernel(op); });
  }

 private:
  void run(abi::KernelContext* context) const {
    const abi::Value* first = input(context, 0);
    const Shape shape(runtime_, first);
    Work work = {op_.label.c_str(),
                 op_.kernel->loops[static_cast<int>(op_.graph)][static_cast<int>(op_.type)],
                 {},
                 shape.element_count()};
    work.tensors.inputs[0] = data(first);
    for (std::size_t k = 1; k < op_.tensor_count(); ++k) {
      const abi::Value* tensor = input(context, k);
      require_equal(shape, Shape(runtime_, tensor), k);
      work.tensors.inputs[k] = data(tensor);
    }
    work.tensors.alpha = op_.kernel->has_alpha ? alpha(input(context, op_.tensor_count())) : 1.0;
    for (std::size_t k = 0; k < op_.output_count(); ++k) {
      auto* output = runtime_.get<abi::KernelContextGetOutput, abi::Value*>(
          context, k, shape.data(), shape.rank());
      work.tensors.outputs[k] = data(output);
    }
    if (work.count > 0) op_.device->run(runtime_, context, work);
  }

  const abi::Value* input(abi::KernelContext* context, std::size_t index) const {
    return runtime_.get<abi::KernelContextGetInput, const abi::Value*>(context, index);
  }

  void* data(const abi::Value* tensor) const {
    return runtime_.get<abi::GetTensorMutableData, void*>(const_cast<abi::Value*>(tensor));
  }

  double alpha(const abi::Value* tensor) const {
    const Shape shape(runtime_, tensor);
    if (shape.element_count() != 1) {
      throw Invalid(op_.label + ": alpha must be a scalar, its shape is " + shape.text());
    }
    const void* number = data(tensor);
    return op_.alpha_type() == abi::ElementType::float64 ? *static_cast<const double*>(number)
                                                         : *static_cast<const float*>(number);
  }

  void require_equal(const Shape& first, const Shape& other, std::size_t index) const {
    if (first == other) return;
    throw Invalid(op_.label + ": its inputs must have one shape, the first has " + first.text() +
                  ", " + input_names[index] + " " + other.text());
  }

  const Operator& op_;
  const Runtime& runtime_;
};

// True if each axis has a length or a symbol. An unknown axis is -1 here, and an unknown rank is 0:
// ONNX Runtime would take both as known if they were set as output shapes.
bool is_known(const Runtime& runtime, const abi::TensorInfo* info) {
  const auto rank = runtime.get<abi::GetDimensionsCount, std::size_t>(info);
  std::vector<std::int64_t> lengths(rank);
  std::vector<const char*> symbols(rank);
  runtime.call<abi::GetDimensions>(info, lengths.data(), rank);
  runtime.call<abi::GetSymbolicDimensions>(info, symbols.data(), rank);
  for (std::size_t axis = 0; axis < rank; ++axis) {
    if (lengths[axis] < 0 && (symbols[axis] == nullptr || *symbols[axis] == '\0')) return false;
  }
  return rank > 0;
}

// Outputs have the shape of the first input, if it is known. ONNX Runtime neither reads nor
// releases the status of this function, so an error is released here.
abi::Status* infer(const Operator& op, abi::ShapeInferContext* context) {
  const Runtime& runtime = op.runtime;
  abi::Status* status = runtime.guarded([&] {
    auto* first = runtime.get<abi::ShapeInferContextGetInputTypeShape, abi::TensorInfo*>(
        context, std::size_t{0});
    if (!is_known(runtime, first)) return;
    for (std::size_t k = 0; k < op.output_count(); ++k) {
      runtime.call<abi::ShapeInferContextSetOutputTypeShape>(context, k, first);
    }
  });
  if (status != nullptr) runtime.release<abi::ReleaseStatus>(status);
  return nullptr;
}

}  // namespace

std::size_t Operator::tensor_count() const {
  return static_cast<std::size_t>(input_count(kernel->inputs, graph));
}

std::size_t Operator::output_count() const {
  return static_cast<std::size_t>(gatewave::output_count(kernel->inputs, graph));
}

abi::ElementType Operator::alpha_type() const {
  return type == Type::float64 ? abi::ElementType::float64 : abi::ElementType::float32;
}

Operator::Operator(const Runtime& runtime_, const Device& device_, const Entry& kernel_,
                   Graph graph_, Type type_)
    : CustomOp{},
      runtime(runtime_),
      device(&device_),
      kernel(&kernel_),
      graph(graph_),
      type(type_),
      label(std::string(kernel_.name) + suffixes[static_cast<int>(graph_)]) {
  version = abi::version;
  get_name = [](const CustomOp* op) { return self(op).label.c_str(); };
  get_execution_provider = [](const CustomOp* op) { return self(op).device->provider; };
  get_input_count = [](const CustomOp* op) {
    return self(op).tensor_count() + (self(op).kernel->has_alpha ? 1 : 0);
  };
  get_input_type = [](const CustomOp* op, std::size_t index) {
    return index < self(op).tensor_count() ? element_type(self(op).type) : self(op).alpha_type();
  };
  get_output_count = [](const CustomOp* op) { return self(op).output_count(); };
  get_output_type = [](const CustomOp* op, std::size_t) { return element_type(self(op).type); };
  get_input_characteristic = [](const CustomOp*, std::size_t) {
    return abi::Characteristic::required;
  };
  get_output_characteristic = get_input_characteristic;
  get_input_memory_type = [](const CustomOp* op, std::size_t index) {
    return index < self(op).tensor_count() ? abi::MemoryType::standard : abi::MemoryType::cpu_input;
  };
  create_kernel = [](const CustomOp* op, const abi::Api*, const abi::KernelInfo*, void** made) {
    return Kernel::create(self(op), made);
  };
  destroy_kernel = [](void* made) { delete static_cast<Kernel*>(made); };
  compute = [](void* made, abi::KernelContext* context) {
    return static_cast<const Kernel*>(made)->compute(context);
  };
  infer_output_shape = [](const CustomOp* op, abi::ShapeInferContext* context) {
    return infer(self(op), context);
  };
  get_start_version = [](const CustomOp*) { return 1; };
  get_end_version = [](const CustomOp*) { return 1; };
}

std::vector<Operator> operators(const Runtime& runtime, const Device& device,
                                const Instructions& instructions) {
  std::vector<Operator> all;
  for (const Entry& kernel : instructions.kernels) {
    for (const Graph graph : graphs) {
      for (const Type type : types) all.emplace_back(runtime, device, kernel, graph, type);
    }
  }
  return all;
}

}  // namespace gatewave::library
