// Table of the compiled instruction sets, and detection of those that this processor supports.
#include <array>

#include "cpu/table.h"
#include "kernels/list.h"

namespace gatewave {

using Table = std::array<cpu::Entry, All::size>;

#if defined(__x86_64__)
namespace avx512 {
extern const Table table;
}
namespace avx2 {
extern const Table table;
}
namespace x86_64 {
extern const Table table;
}
#elif defined(__aarch64__)
namespace neon {
extern const Table table;
}
#else
namespace portable {
extern const Table table;
}
#endif

namespace cpu {

std::span<const Instructions> instructions() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  static const Instructions all[] = {
      {"avx512", __builtin_cpu_supports("x86-64-v4") != 0, avx512::table},
      {"avx2", __builtin_cpu_supports("x86-64-v3") != 0, avx2::table},
      {"x86-64", true, x86_64::table},
  };
#elif defined(__aarch64__)
  static const Instructions all[] = {{"neon", true, neon::table}};
#else
  static const Instructions all[] = {{"portable", true, portable::table}};
#endif
  return all;
}

}  // namespace cpu
}  // namespace gatewave
