// List of all kernels. The tables of every target are built from it.
#pragma once

#include "kernels/gated.h"
#include "kernels/geglu.h"
#include "kernels/products.h"
#include "kernels/sinc.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

template <class... Kernels>
struct List {
  static constexpr int size = sizeof...(Kernels);
};

using All =
    List<Sinc, Sigmoid, Swish, SwiGLUSigmoid, SwiGLULinear, GLU, Bilinear, ReGLU, GeGLU, GeGLUTanh>;

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
