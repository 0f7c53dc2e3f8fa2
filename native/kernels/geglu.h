// Kernels with GELU gates.
#pragma once

#include "kernels/kernel.h"
#include "mathematics/gate.h"
#include "mathematics/normal.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// Formula: a Phi(a) b, with the normal distribution function Phi: the exact form of GELU.
//
// mathematics/normal.h computes Phi. The derivative for a crosses zero at a = -0.7518; there the
// absolute bound is scaled by |b|. Special values: NaN at a = -infinity; the derivative for a is
// NaN at both infinities.
struct GeGLU {
  static constexpr const char* name = "GeGLU";
  static constexpr int inputs = 2;
  static constexpr bool has_alpha = false;
  static constexpr bool has_ranges = false;
  static constexpr Error value_error = {2, 0};
  static constexpr Error partial_error = {2, 0.6};

  template <Range, class T, class Alpha>
  GATEWAVE_INLINE static T value(const Arguments<T, Alpha>& in) {
    return product(normal(in.a).value(), in.a, in.b);
  }

  template <Range, class T, class Alpha, class G>
  GATEWAVE_INLINE static Gradients<T> gradients(const Arguments<T, Alpha>& in, G g) {
    const Normal<T> a = normal(in.a);
    const T da = product(a.product_slope(), in.b, g);
    return {product(a.value(), in.a, in.b), multiply_add(T{0}, in.a, da),
            product(a.value(), in.a, g)};
  }
};

// Formula: a s(v(a)) b with v = 2 sqrt(2/pi) (a + 0.044715 a^3): the tanh form of GELU, because
// (1 + tanh(u)) / 2 = s(2 u).
//
// v is a pair, since an error in v is multiplied by v in the gate's tail. The derivative for a
// crosses zero at a = -0.7525; there the absolute bound is scaled by |b|. Special values: NaN at
// a = -infinity; the derivative for a is finite at both infinities.
struct GeGLUTanh {
  static constexpr const char* name = "GeGLUTanh";
  static constexpr int inputs = 2;
  static constexpr bool has_alpha = false;
  static constexpr bool has_ranges = false;
  static constexpr Error value_error = {2, 0};
  static constexpr Error partial_error = {2, 0.6};

  template <Range, class T, class Alpha>
  GATEWAVE_INLINE static T value(const Arguments<T, Alpha>& in) {
    const Cubic<T> v(in.a);
    return product(any_gate(v.value.high, v.value.low).value(), in.a, in.b);
  }

  template <Range, class T, class Alpha, class G>
  GATEWAVE_INLINE static Gradients<T> gradients(const Arguments<T, Alpha>& in, G g) {
    const Cubic<T> v(in.a);
    const auto gate = any_gate(v.value.high, v.value.low);
    return {product(gate.value(), in.a, in.b), product(gate.product_slope(v.rise), in.b, g),
            product(gate.value(), in.a, g)};
  }

 private:
  template <class T>
  struct Cubic {
    Pair<T> value;  // v(a)
    Pair<T> rise;   // a v'(a)

    GATEWAVE_INLINE explicit Cubic(T a) {
      // Beyond ±30 the gate is 0 or 1 in every format.
      constexpr T end = 30;
      const T held = at_least(at_most(a, end), -end);
      const Pair<T> cubic = exact_product(held, held) * gelu_cubic<T>;
      value = held * (gelu_linear<T> + cubic);
      rise = held * (gelu_linear<T> + Pair<T>{T{3} * cubic.high, T{3} * cubic.low});
    }
  };
};

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
