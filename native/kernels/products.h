#pragma once

#include "kernels/kernel.h"
#include "mathematics/gate.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// a b.
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

// max(0, a) b; the derivative at a = 0 is 0. NaN stays NaN.
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
    // Selected, not multiplied by 0 or 1: that is NaN where b is infinite.
    const T slope = in.a > T{0} ? in.b : (in.a <= T{0} ? T{0} : in.a);
    const T gate = at_least(in.a, T{0});
    return {gate * in.b, times(slope, g), times(gate, g)};
  }
};

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
