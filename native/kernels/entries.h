// Builds the table of all kernels from the loops of one target.
#pragma once

#include <array>

#include "kernels/list.h"
#include "kernels/table.h"
#include "mathematics/narrow.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

template <class Loops, class Kernel, Graph graph, class T>
inline constexpr Loop one = Loops::template loop<Kernel, graph, T>;

template <class Loops, class Kernel>
constexpr Entry entry() {
  using enum Graph;
  return {Kernel::name,
          Kernel::inputs,
          Kernel::has_alpha,
          {Kernel::value_error.ulp, Kernel::value_error.near_zero},
          {Kernel::partial_error.ulp, Kernel::partial_error.near_zero},
          {{one<Loops, Kernel, value, float>, one<Loops, Kernel, value, double>,
            one<Loops, Kernel, value, Float16>, one<Loops, Kernel, value, BFloat16>},
           {one<Loops, Kernel, gradients, float>, one<Loops, Kernel, gradients, double>,
            one<Loops, Kernel, gradients, Float16>, one<Loops, Kernel, gradients, BFloat16>},
           {one<Loops, Kernel, vjp, float>, one<Loops, Kernel, vjp, double>,
            one<Loops, Kernel, vjp, Float16>, one<Loops, Kernel, vjp, BFloat16>}}};
}

// `Loops::loop<Kernel, graph, T>` computes one graph of one kernel in one type.
template <class Loops, class... Kernels>
constexpr std::array<Entry, sizeof...(Kernels)> entries(List<Kernels...>) {
  return {entry<Loops, Kernels>()...};
}

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
