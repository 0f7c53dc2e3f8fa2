// Entry point, the only exported symbol of the library.
#include <cstdio>
#include <list>
#include <mutex>
#include <set>
#include <sstream>
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

// Session setting: comma-separated names of the operators that the session needs. By default all
// are registered, and a session takes twice as long to open.
constexpr const char* operators_setting = "ai.gatewave.operators";

using Names = std::set<std::string>;

Names names(const std::string& text) {
  Names found;
  std::istringstream words(text);
  for (std::string word; std::getline(words, word, ',');) {
    const std::size_t begin = word.find_first_not_of(' ');
    if (begin == std::string::npos) continue;
    found.insert(word.substr(begin, word.find_last_not_of(' ') + 1 - begin));
  }
  return found;
}

// Returns the wanted operators of an instruction set; all, if `wanted` is empty.
std::vector<Operator> chosen(const Runtime& runtime, const Instructions& instructions,
                             const Names& wanted) {
  std::vector<Operator> all = operators(runtime, device, instructions);
  if (wanted.empty()) return all;
  Names known = {DescriptionOperator::name};
  for (const Operator& op : all) known.insert(op.label);
  for (const std::string& name : wanted) {
    if (known.contains(name)) continue;
    std::string list;
    for (const std::string& other : known) list += (list.empty() ? "" : ", ") + other;
    throw Invalid(std::string(operators_setting) + ": there is no operator '" + name + "' among " +
                  list);
  }
  std::erase_if(all, [&](const Operator& op) { return !wanted.contains(op.label); });
  return all;
}

// The wanted operators of an instruction set. ONNX Runtime keeps pointers to them as long as a
// session exists, so they are created once and never freed. For the same reason the library is
// linked with -z nodelete.
struct Domain {
  Domain(const Runtime& runtime_, const Instructions& instructions_, const Names& wanted_)
      : runtime(runtime_),
        instructions(&instructions_),
        wanted(wanted_),
        all(chosen(runtime, instructions_, wanted)),
        about(description(device, instructions_)) {
    handle = runtime.get<abi::CreateCustomOpDomain, abi::CustomOpDomain*>(domain_name);
    for (const Operator& op : all) {
      runtime.call<abi::CustomOpDomainAdd>(handle, static_cast<const abi::CustomOp*>(&op));
    }
    runtime.call<abi::CustomOpDomainAdd>(handle, static_cast<const abi::CustomOp*>(&about));
  }

  Runtime runtime;
  const Instructions* instructions;
  Names wanted;
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

abi::CustomOpDomain* domain(const Runtime& runtime, const Instructions& instructions,
                            const Names& wanted) {
  static std::mutex mutex;
  static auto& domains = *new std::list<Domain>;  // outlives all sessions
  const std::lock_guard lock(mutex);
  for (const Domain& known : domains) {
    if (known.runtime == runtime && known.instructions == &instructions && known.wanted == wanted) {
      return known.handle;
    }
  }
  return domains.emplace_back(runtime, instructions, wanted).handle;
}

// Decides by the release: if a version is requested that ONNX Runtime lacks, it writes to its log.
bool lends_shapes(const char* release) {
  int major = 0;
  int minor = 0;
  return std::sscanf(release, "%d.%d", &major, &minor) == 2 &&
         (major > 1 || minor >= abi::lending_version);
}

}  // namespace
}  // namespace gatewave::library

extern "C" __attribute__((visibility("default"))) gatewave::abi::Status* RegisterCustomOps(
    gatewave::abi::SessionOptions* options, const gatewave::abi::ApiBase* base) {
  using namespace gatewave;
  const abi::Api* api = base->get_api(abi::version);
  if (api == nullptr) {
    char message[100];
    std::snprintf(message, sizeof message,
                  "Gatewave's kernels need ONNX Runtime %s or newer; this is %.30s",
                  abi::oldest_release, base->get_version_string());
    return library::Runtime(base->get_api(1)).status(abi::ErrorCode::fail, message);
  }
  const library::Runtime runtime(api, library::lends_shapes(base->get_version_string()));
  return runtime.guarded([&] {
    const Instructions& instructions =
        library::device.chosen(library::setting(runtime, options, library::instructions_setting));
    const library::Names wanted =
        library::names(library::setting(runtime, options, library::operators_setting));
    runtime.call<abi::AddCustomOpDomain>(options, library::domain(runtime, instructions, wanted));
  });
}
