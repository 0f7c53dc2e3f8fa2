#include "library/description.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "library/call.h"

namespace gatewave::library {
namespace {

class Kernel {
 public:
  Kernel(const std::string& text, const abi::Api* api) : text_(text), runtime_(api) {}

  abi::Status* compute(abi::KernelContext* context) const noexcept {
    return runtime_.guarded([&] {
      const std::int64_t length = static_cast<std::int64_t>(text_.size());
      auto* output = runtime_.get<abi::KernelContextGetOutput, abi::Value*>(
          context, std::size_t{0}, &length, std::size_t{1});
      void* data = runtime_.get<abi::GetTensorMutableData, void*>(output);
      std::copy(text_.begin(), text_.end(), static_cast<char*>(data));
    });
  }

 private:
  const std::string& text_;
  Runtime runtime_;
};

template <class Names>
void write(std::ostream& out, const Names& names) {
  const char* separator = "";
  out << '[';
  for (const auto& name : names) {
    out << separator << '"' << name << '"';
    separator = ", ";
  }
  out << ']';
}

void write(std::ostream& out, const char* name, Bounds bounds) {
  out << '"' << name << "\": {\"ulp\": " << bounds.ulp << ", \"near_zero\": " << bounds.near_zero
      << '}';
}

}  // namespace

DescriptionOperator::DescriptionOperator(std::string text_) : CustomOp{}, text(std::move(text_)) {
  version = abi::version;
  get_name = [](const CustomOp*) { return name; };
  get_execution_provider = [](const CustomOp*) { return "CPUExecutionProvider"; };
  get_input_count = [](const CustomOp*) { return std::size_t{0}; };
  get_input_type = [](const CustomOp*, std::size_t) { return abi::ElementType::uint8; };
  get_output_count = [](const CustomOp*) { return std::size_t{1}; };
  get_output_type = get_input_type;
  get_input_characteristic = [](const CustomOp*, std::size_t) {
    return abi::Characteristic::required;
  };
  get_output_characteristic = get_input_characteristic;
  get_input_memory_type = [](const CustomOp*, std::size_t) { return abi::MemoryType::standard; };
  create_kernel = [](const CustomOp* op, const abi::Api* api, const abi::KernelInfo*, void** made) {
    return Runtime(api).guarded(
        [&] { *made = new Kernel(static_cast<const DescriptionOperator*>(op)->text, api); });
  };
  destroy_kernel = [](void* made) { delete static_cast<Kernel*>(made); };
  compute = [](void* made, abi::KernelContext* context) {
    return static_cast<const Kernel*>(made)->compute(context);
  };
}

std::string description(const Device& device, const Instructions& chosen) {
  std::ostringstream out;
  out << "{\"instructions\": \"" << chosen.name << "\", \"supported\": ";
  write(out, device.supported());
  out << ", \"architectures\": ";
  write(out, device.architectures);
  out << ", \"kernels\": {";
  const char* separator = "";
  for (const Entry& kernel : chosen.kernels) {
    out << separator << '"' << kernel.name << "\": {";
    write(out, "value", kernel.value);
    out << ", ";
    write(out, "partials", kernel.partials);
    out << '}';
    separator = ", ";
  }
  out << "}}";
  return out.str();
}

}  // namespace gatewave::library
