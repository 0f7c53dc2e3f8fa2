// The standard normal distribution function Phi for the exact GELU.
//
// Method: Phi(-t) = e^(-t^2/2) q(y) / (t + 4) for t = |x|, with y = (t - 4) / (t + 4) and the
// polynomial q of coefficients.py (`normal_tail`). The factor e^(-t^2/2) stays unrounded, so the
// tail keeps its relative accuracy, which 1 + erf(x / sqrt 2) loses.
#pragma once

#include "mathematics/gate.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// Parts of Phi(x) that the value and the derivative of x Phi(x) share.
template <class T>
struct Normal {
  T distance;  // |x|, clamped to `end`
  bool negative;
  Pair<T> ratio;    // Phi(-|x|) e^(x^2/2), with almost twice the digits
  Scaled<T> decay;  // e^(-x^2/2)

  static constexpr T end = 60;

  // Phi(x).
  GATEWAVE_INLINE Scaled<T> value() const { return sided(ratio); }

  // Phi(x) + x phi(x): the derivative of x Phi(x).
  GATEWAVE_INLINE Scaled<T> product_slope() const {
    const Pair<T> rise = distance * density<T>;
    return sided(ratio + Pair<T>{-rise.high, -rise.low});
  }

 private:
  // factor * e^(-x^2/2) for negative x, and 1 minus that otherwise.
  GATEWAVE_INLINE Scaled<T> sided(Pair<T> factor) const {
    const Pair<T> tail = factor * decay.mantissa;
    const T scale = decay.half * decay.other_half;
    const Pair<T> rest = Pair<T>{T{1}, T{0}} + Pair<T>{-tail.high * scale, -tail.low * scale};
    return {{negative ? tail.high : rest.high, negative ? tail.low : rest.low},
            negative ? decay.half : T{1},
            negative ? decay.other_half : T{1}};
  }
};

template <class T>
GATEWAVE_INLINE Normal<T> normal(T x) {
  constexpr T centre = 4;
  const T distance = at_most(magnitude(x), Normal<T>::end);
  const Pair<T> sum = exact_sum(distance, centre);
  const Pair<T> inverse = reciprocal(sum);
  const Pair<T> y = exact_sum(distance, -centre) * inverse;
  constexpr int count = sizeof(normal_terms<T>) / sizeof(T);
  // Terms from the fifth power on are so small that their rounding errors do not matter.
  constexpr int exact = 5;
  T later = normal_terms<T>[count - 1];
  GATEWAVE_UNROLL
  for (int k = count - 2; k >= exact; --k) {
    later = multiply_add(later, y.high, normal_terms<T>[k]);
  }
  Pair<T> tail = {later, T{0}};
  GATEWAVE_UNROLL
  for (int k = exact - 1; k >= 0; --k) {
    tail = Pair<T>{normal_terms<T>[k], normal_rests<T>[k]} + y * tail;
  }
  const Pair<T> square = exact_product(distance, distance);
  return {distance, x < T{0}, tail * inverse, decay(T(0.5) * square.high, T(0.5) * square.low)};
}

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
