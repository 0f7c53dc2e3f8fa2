// Conversions for one instruction set. CMake compiles this file like cpu/kernels.cpp.
#include "cpu/narrow.h"
#include "tests/conversions.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {
namespace {

template <class Narrow>
void widen_all(const std::uint16_t* from, float* to, std::ptrdiff_t count) {
  widen(reinterpret_cast<const Narrow*>(from), to, count);
}

template <class Narrow>
void narrow_all(const float* from, std::uint16_t* to, std::ptrdiff_t count) {
  narrow(from, reinterpret_cast<Narrow*>(to), count);
}

}  // namespace

extern const tests::Conversions conversions;
constexpr tests::Conversions conversions = {{widen_all<Float16>, widen_all<BFloat16>},
                                            {narrow_all<Float16>, narrow_all<BFloat16>}};

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
