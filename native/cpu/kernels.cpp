// The kernels for one instruction set: CMake compiles this once for each, with GATEWAVE_TARGET.
#include <array>

#include "cpu/loops.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

extern const std::array<cpu::Entry, All::size> table;
constexpr std::array<cpu::Entry, All::size> table = entries<Loops>(All{});

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
