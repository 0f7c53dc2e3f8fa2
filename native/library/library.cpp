// The way in: the one symbol that the library shows.
#include <list>
#include <mutex>
#include <string>
#include <vector>

#include "abi/onnxruntime.h"
#include "library/call.h"
#include "library/description.h"
#include "library/device.h"
#include "library/operator.h"

namespace gatewave::library {
namespace {

constexpr const char* domain_name = "ai.gatewave";

// The operators of an instruction set. ONNX Runtime keeps pointers to them for as long as there are
// sessions, so they are made once and stay.
struct Domain {
  Domain(const abi::Api* api, const Instructions& chosen)
      : instructions(&chosen),
        all(operators(api, device, chosen)),
        about(description(device, chosen)) {
    const Runtime runtime(api);
    handle = runtime.get<abi::CreateCustomOpDomain, abi::CustomOpDomain*>(domain_name);
    for (const Operator& op : all) {
      runtime.call<abi::CustomOpDomainAdd>(handle, static_cast<const abi::CustomOp*>(&op));
    }
    runtime.call<abi::CustomOpDomainAdd>(handle, static_cast<const abi::CustomOp*>(&about));
  }

  const Instructions* instructions;
  std::vector<Operator> all;
  DescriptionOperator about;
  abi::CustomOpDomain* handle;
};

std::string setting(const Runtime& runtime, const abi::SessionOptions* options) {
  if (!runtime.get<abi::HasSessionConfigEntry, int>(options, instructions_setting)) return {};
  std::size_t size = 0;
  runtime.call<abi::GetSessionConfigEntry>(options, instructions_setting,
                                           static_cast<char*>(nullptr), &size);
  std::string text(size, '\0');
  runtime.call<abi::GetSessionConfigEntry>(options, instructions_setting, text.data(), &size);
  text.resize(size - 1);
  return text;
}

abi::CustomOpDomain* domain(const abi::Api* api, const Instructions& instructions) {
  static std::mutex mutex;
  static auto& domains = *new std::list<Domain>;  // outlives all sessions
  const std::lock_guard lock(mutex);
  for (const Domain& known : domains) {
    if (known.instructions == &instructions) return known.handle;
  }
  return domains.emplace_back(api, instructions).handle;
}

}  // namespace
}  // namespace gatewave::library

extern "C" __attribute__((visibility("default"))) gatewave::abi::Status* RegisterCustomOps(
    gatewave::abi::SessionOptions* options, const gatewave::abi::ApiBase* base) {
  using namespace gatewave;
  const abi::Api* api = base->get_api(abi::version);
  if (api == nullptr) {
    const std::string message = std::string("Gatewave's kernels need ONNX Runtime ") +
                                abi::oldest_release + " or newer; this is " +
                                base->get_version_string();
    return library::Runtime(base->get_api(1)).status(abi::ErrorCode::fail, message.c_str());
  }
  const library::Runtime runtime(api);
  return runtime.guarded([&] {
    const Instructions& instructions = library::device.chosen(library::setting(runtime, options));
    runtime.call<abi::AddCustomOpDomain>(options, library::domain(api, instructions));
  });
}
