// The CPU as a device for operators.
#include "library/device.h"

#include <algorithm>

#include "cpu/table.h"

namespace gatewave::library {
namespace {

// Elements that a thread computes at a time. Fewer cost more to distribute than to compute. 4096 to
// 65536 were tried: larger values left a second thread idle at 16384 elements, and smaller values
// gained nothing.
constexpr std::ptrdiff_t grain = 1 << 13;

std::vector<std::string> supported() {
  std::vector<std::string> names;
  for (const Instructions& instructions : cpu::instructions()) {
    if (instructions.is_supported) names.emplace_back(instructions.name);
  }
  return names;
}

const Instructions& chosen(const std::string& setting) {
  std::string known;
  for (const Instructions& instructions : cpu::instructions()) {
    if (!instructions.is_supported) continue;
    if (setting.empty() || setting == instructions.name) return instructions;
    known += (known.empty() ? "" : ", ") + std::string(instructions.name);
  }
  throw Invalid(std::string(instructions_setting) + " must be one of " + known + ", not '" +
                setting + "'");
}

// Computes the work in pieces, in ONNX Runtime's threads.
void run(const Runtime& runtime, abi::KernelContext* context, Work& work) {
  if (work.count <= grain) return work.loop(work.tensors, 0, work.count);
  const auto piece = [](void* shared, std::size_t index) {
    const Work& whole = *static_cast<const Work*>(shared);
    const std::ptrdiff_t begin = static_cast<std::ptrdiff_t>(index) * grain;
    whole.loop(whole.tensors, begin, std::min(begin + grain, whole.count));
  };
  const auto pieces = static_cast<std::size_t>((work.count + grain - 1) / grain);
  runtime.call<abi::KernelContextParallelFor>(context, piece, pieces, std::size_t{0}, &work);
}

}  // namespace

const Device device = {"CPUExecutionProvider", chosen, supported, run};

}  // namespace gatewave::library
