#pragma once

#include "kernels/kernel.h"
#include "mathematics/gate.h"
#include "mathematics/sine.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// sin(pi x) / (pi x), 1 at 0; exactly 0 at other integers, 0 at infinity.
struct Sinc {
  static constexpr const char* name = "Sinc";
  static constexpr int inputs = 1;
  static constexpr bool has_alpha = false;
  static constexpr bool has_ranges = true;
  static constexpr Error value_error = {2, 0};
  static constexpr Error partial_error = {2, 0.4};

  // Whether x may have a fraction. No NaN has.
  template <class T, class Alpha>
  GATEWAVE_INLINE static bool is_common(const Arguments<T, Alpha>& in) {
    return magnitude(in.a) < whole<T>;
  }

  template <Range range, class T, class Alpha>
  GATEWAVE_INLINE static T value(const Arguments<T, Alpha>& in) {
    const T distance = magnitude(in.a);
    const Reduced<T> r = reduced<range>(distance);
    const T bend = sinc_minus_one(r.rest);
    const T far = quotient(r.rest, bend, distance);
    return distance <= T(0.5) ? T{1} + bend : from_bits<T>(bits(far) ^ r.flip);
  }

  // (cos(pi x) - sinc x) / x; within 1/2 its series, as that cancels, and among the even integers
  // just 1 / x.
  template <Range range, class T, class Alpha, class G>
  GATEWAVE_INLINE static Gradients<T> gradients(const Arguments<T, Alpha>& in, G g) {
    const T distance = magnitude(in.a);
    const T inverse = T{1} / distance;
    const Reduced<T> r = reduced<range>(distance);
    const Pair<T> cosine = pi<T> * sine_over_pi(T(0.5) - magnitude(r.rest));
    const Pair<T> sinc = over(sine_over_pi(r.rest), distance, inverse);
    const Pair<T> far = over(cosine + Pair<T>{-sinc.high, -sinc.low}, distance, inverse);
    const T series = polynomial(sinc_slope_terms<T>, distance * distance);
    const bool is_near = distance <= T(0.5);
    const bool is_even = range == Range::any && distance > even<T>;
    // 0 / infinity by way of its reciprocal is not 0.
    const T value = is_even ? T{0} : from_bits<T>(bits(rounded(sinc)) ^ r.flip);
    const T high = is_even ? inverse : is_near ? distance * series : far.high;
    const T low = is_even ? T{0} : is_near ? product_error(distance, series, high) : far.low;
    const Bits<T> flip = r.flip ^ sign(in.a);
    return {is_near ? T{1} + sinc_minus_one(r.rest) : value,
            product(Pair<T>{from_bits<T>(bits(high) ^ flip), from_bits<T>(bits(low) ^ flip)}, g),
            T{0}};
  }

 private:
  // (r + r bend) / distance; without FMA one rounding more would be too many.
  template <class T>
  GATEWAVE_INLINE static T quotient(T r, T bend, T distance) {
    if constexpr (has_fma) {
      return multiply_add(r, bend, r) / distance;
    } else {
      const T finite = at_most(distance, even<T>);
      return rounded(over(ordered_sum(r, r * bend), finite, T{1} / finite));
    }
  }
};

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
