// sin(pi x) by range reduction to the distance from the nearest integer.
#pragma once

#include "mathematics/coefficients.h"
#include "mathematics/numeric.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// |x| = nearest + rest exactly, with |rest| <= 1/2.
template <class T>
struct Reduced {
  T rest;
  Bits<T> flip;  // the sign bit if nearest is odd: then sin(pi |x|) = -sin(pi rest)
};

// From 2^24 (2^53) on, all numbers are even integers. Infinity is treated as one.
template <class T>
inline constexpr T even = T(Bits<T>{1} << Format<T>::digits);

// From 2^23 (2^52) on, all numbers are integers.
template <class T>
inline constexpr T whole = even<T> / T{2};

// The reduction of a magnitude; in the common range it must be below `whole`.
template <Range range, class T>
GATEWAVE_INLINE Reduced<T> reduced(T distance) {
  const bool fractional = range == Range::common || distance < whole<T>;
  // In both cases the lowest bit of `shifted` is the parity of the integer.
  const T shifted = fractional ? distance + whole<T> : at_most(distance, even<T>);
  const T rest = distance - (shifted - whole<T>);
  return {fractional ? rest : T{0}, bits(shifted) << (sizeof(T) * 8 - 1)};
}

// sin(pi r) / (pi r) - 1, for |r| <= 1/2. The largest term is added last, so that it is rounded
// only once.
template <class T>
GATEWAVE_INLINE T sinc_minus_one(T r) {
  const T square = r * r;
  const T later = square * square * polynomial<1>(sine_terms<T>, square);
  return multiply_add(square, sine_terms<T>[0], later);
}

// sin(pi r) / pi, for |r| <= 1/2.
template <class T>
GATEWAVE_INLINE Pair<T> sine_over_pi(T r) {
  return ordered_sum(r, r * sinc_minus_one(r));
}

// x / d, for a given inverse = 1 / d.
template <class T>
GATEWAVE_INLINE Pair<T> over(Pair<T> x, T d, T inverse) {
  const T high = x.high * inverse;
  return {high, (x.low - product_error(high, d, x.high)) * inverse};
}

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
