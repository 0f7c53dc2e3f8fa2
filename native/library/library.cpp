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

// A session's setting: the names of the operators that it needs, with commas between them; all, if
// it is not there. A session takes twice as long to open with all of them.
constexpr const char* operators_setting = "ai.gatewave.operators";

bool is_wanted(const std::string& name, const std::string& wanted) {
  return wanted.empty() || ("," + wanted + ",").find("," + name + ",") != std::string::npos;
}

// The operators of an instruction set that are wanted. ONNX Runtime keeps pointers to them for as
// long as there are sessions, so they are made once and stay.
struct Domain {
  Domain(const abi::Api* api, const Instructions& chosen, const std::string& names)
      : instructions(&chosen),
        wanted(names),
        all(operators(api, device, chosen)),
        about(description(device, chosen)) {
    const Runtime runtime(api);
    handle = runtime.get<abi::CreateCustomOpDomain, abi::CustomOpDomain*>(domain_name);
    for (const Operator& op : all) {
      if (!is_wanted(op.label, wanted)) continue;
      runtime.call<abi::CustomOpDomainAdd>(handle, static_cast<const abi::CustomOp*>(&op));
    }
    runtime.call<abi::CustomOpDomainAdd>(handle, static_cast<const abi::CustomOp*>(&about));
  }

  const Instructions* instructions;
  std::string wanted;
  std::vector<Operator> all;
  DescriptionOperator about;
  abi::CustomOpDomain* handle;
};

std::string setting(const Runtime& runtime, const abi::SessionOptions* options, const char* name) {
  if (!runtime.get<abi::HasSessionConfigEntry, int>(options, name)) return {};
  std::size_t size = 0;
  runtime.call<abi::GetSessionConfigEntry>(options, name, static_cast<char*>(nullptr), &size);
  std::string text(size, '\0');
  runtime.call<abi::GetSessionConfigEntry>(options, name, text.data(), &size);
  text.resize(size - 1);
  return text;
}

abi::CustomOpDomain* domain(const abi::Api* api, const Instructions& instructions,
                            const std::string& wanted) {
  static std::mutex mutex;
  static auto& domains = *new std::list<Domain>;  // outlives all sessions
  const std::lock_guard lock(mutex);
  for (const Domain& known : domains) {
    if (known.instructions == &instructions && known.wanted == wanted) return known.handle;
  }
  return domains.emplace_back(api, instructions, wanted).handle;
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
    const Instructions& instructions =
        library::device.chosen(library::setting(runtime, options, library::instructions_setting));
    const std::string wanted = library::setting(runtime, options, library::operators_setting);
    runtime.call<abi::AddCustomOpDomain>(options, library::domain(api, instructions, wanted));
  });
}
