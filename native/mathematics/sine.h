// The sine of multiples of pi, and the way there: how far a number is from the nearest integer.
#pragma once

#include "mathematics/coefficients.h"
#include "mathematics/numeric.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// |x| = nearest + rest, exactly; |rest| <= 1/2.
template <class T>
struct Reduced {
  T rest;
  Bits<T> flip;  // the sign bit, if nearest is odd: sin(pi |x|) has then the sign of -sin(pi rest)
};

// From here on all numbers are even integers; infinity counts as one.
template <class T>
inline constexpr T integral = T(Bits<T>{1} << Format<T>::digits);

// Of a magnitude.
template <class T>
GATEWAVE_INLINE Reduced<T> reduced(T distance) {
  constexpr T rounder = integral<T> / T{2};
  const bool fractional = distance < rounder;
  // Either way the lowest bit says whether the integer is odd.
  const T shifted = fractional ? distance + rounder : at_most(distance, integral<T>);
  const T nearest = shifted - rounder;
  return {fractional ? distance - nearest : T{0}, bits(shifted) << (sizeof(T) * 8 - 1)};
}

// sin(pi r) / (pi r) - 1, for |r| <= 1/2.
template <class T>
GATEWAVE_INLINE T sinc_minus_one(T r) {
  const T square = r * r;
  return square * polynomial(sine_terms<T>, square);
}

// sin(pi r) / pi, for |r| <= 1/2.
template <class T>
GATEWAVE_INLINE Pair<T> sine_over_pi(T r) {
  return ordered_sum(r, r * sinc_minus_one(r));
}

// x / d, with 1/d at hand.
template <class T>
GATEWAVE_INLINE Pair<T> over(Pair<T> x, T d, T inverse) {
  const T high = x.high * inverse;
  return {high, (x.low - product_error(high, d, x.high)) * inverse};
}

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
