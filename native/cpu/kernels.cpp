// Kernels for one instruction set. CMake compiles this file once for each set, with
// GATEWAVE_TARGET.
#include <array>

#include "cpu/loops.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

extern const std::array<cpu::Entry, All::size> table;
constexpr std::array<cpu::Entry, All::size> table = entries<Loops>(All{});

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
