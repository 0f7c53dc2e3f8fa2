#pragma once

#include "kernels/kernel.h"
#include "mathematics/gate.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// Formula: a b. Special values: the IEEE product.
//
// Error: one rounding.
struct Bilinear {
  static constexpr const char* name = "Bilinear";
  static constexpr int inputs = 2;
  static constexpr bool has_alpha = false;
  static constexpr bool has_ranges = false;
  static constexpr Error value_error = {0.5, 0};
  static constexpr Error partial_error = {0.5, 0};

  template <Range, class T, class Alpha>
  GATEWAVE_INLINE static T value(const Arguments<T, Alpha>& in) {
    return in.a * in.b;
  }

  template <Range, class T, class Alpha, class G>
  GATEWAVE_INLINE static Gradients<T> gradients(const Arguments<T, Alpha>& in, G g) {
    return {in.a * in.b, times(in.b, g), times(in.a, g)};
  }
};

// Formula: max(0, a) b. The derivative for a is 0 at a = 0, as in Torch.
//
// Error: one rounding. Special values: NaN stays NaN; 0 times infinity is NaN.
struct ReGLU {
  static constexpr const char* name = "ReGLU";
  static constexpr int inputs = 2;
  static constexpr bool has_alpha = false;
  static constexpr bool has_ranges = false;
  static constexpr Error value_error = {0.5, 0};
  static constexpr Error partial_error = {0.5, 0};

  template <Range, class T, class Alpha>
  GATEWAVE_INLINE static T value(const Arguments<T, Alpha>& in) {
    return at_least(in.a, T{0}) * in.b;
  }

  template <Range, class T, class Alpha, class G>
  GATEWAVE_INLINE static Gradients<T> gradients(const Arguments<T, Alpha>& in, G g) {
    // A selection: multiplying by 0 or 1 would give NaN for infinite b.
    const T slope = in.a > T{0} ? in.b : (in.a <= T{0} ? T{0} : in.a);
    const T gate = at_least(in.a, T{0});
    return {gate * in.b, times(slope, g), times(gate, g)};
  }
};

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
