#pragma once

#include "kernels/kernel.h"
#include "mathematics/gate.h"
#include "mathematics/sine.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// Formula: sin(pi x) / (pi x).
//
// Range reduction: |x| = n + r exactly, with an integer n and |r| <= 1/2. Then sin(pi |x|) is
// (-1)^n sin(pi r), and a polynomial in r^2 gives sin(pi r) / (pi r) - 1. No rounded pi x is
// needed, so the zeros are exact.
//
// Special values: 1 at ±0, exactly 0 at all other integers, 0 at ±infinity.
struct Sinc {
  static constexpr const char* name = "Sinc";
  static constexpr int inputs = 1;
  static constexpr bool has_alpha = false;
  static constexpr bool has_ranges = true;
  static constexpr Error value_error = {2, 0};
  static constexpr Error partial_error = {2, 0.4};

  // True for |x| below 2^23 (2^52), where floats have fractions; false for NaN.
  template <class T, class Alpha>
  GATEWAVE_INLINE static bool is_common(const Arguments<T, Alpha>& in) {
    return magnitude(in.a) < whole<T>;
  }

  template <Range range, class T, class Alpha>
  GATEWAVE_INLINE static T value(const Arguments<T, Alpha>& in) {
    const T distance = magnitude(in.a);
    const Reduced<T> r = reduced<range>(distance);
    const T excess = sinc_minus_one(r.rest);
    const T far = quotient(r.rest, excess, distance);
    return distance <= T(0.5) ? T{1} + excess : from_bits<T>(bits(far) ^ r.flip);
  }

  // (cos(pi x) - sinc x) / x. For |x| <= 1/2 this difference cancels, so a polynomial in x^2
  // replaces it. From 2^24 (2^53) on, all floats are even integers, and the derivative is 1 / x.
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
    // `over` multiplies by the reciprocal, which does not give 0 at infinity.
    const T value = is_even ? T{0} : from_bits<T>(bits(rounded(sinc)) ^ r.flip);
    const T high = is_even ? inverse : is_near ? distance * series : far.high;
    const T low = is_even ? T{0} : is_near ? product_error(distance, series, high) : far.low;
    const Bits<T> flip = r.flip ^ sign(in.a);
    return {is_near ? T{1} + sinc_minus_one(r.rest) : value,
            product(Pair<T>{from_bits<T>(bits(high) ^ flip), from_bits<T>(bits(low) ^ flip)}, g),
            T{0}};
  }

 private:
  // (r + r excess) / distance. Without FMA, the additional rounding would exceed the bound, so the
  // sum is kept as a pair.
  template <class T>
  GATEWAVE_INLINE static T quotient(T r, T excess, T distance) {
    if constexpr (has_fma) {
      return multiply_add(r, excess, r) / distance;
    } else {
      const T finite = at_most(distance, even<T>);
      return rounded(over(ordered_sum(r, r * excess), finite, T{1} / finite));
    }
  }
};

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
