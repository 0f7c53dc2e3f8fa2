// The logistic gate s(u) = 1 / (1 + e^-u), its slope, and what is made of both.
//
// In the common range, |u| <= Gate::common_limit, nothing over- or underflows. In any range e^-|u|
// is held as a mantissa and two halves of its exponent, so that tails keep all digits down to the
// least subnormal. Gates below 2^-252 (2^-2044) count as 0.
#pragma once

#include <limits>

#include "mathematics/exponential.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

enum class Range { common, any };

// mantissa * half * other_half. The halves are powers of two up to 1, or 0; in the common range
// they are 1, and are not looked at.
template <Range range, class T>
struct Scaled {
  Pair<T> mantissa;
  T half;
  T other_half;
};

template <Range range, class T>
GATEWAVE_INLINE Scaled<range, T> operator*(Scaled<range, T> x, Scaled<range, T> y) {
  if constexpr (range == Range::common) {
    return {x.mantissa * y.mantissa, T{1}, T{1}};
  } else {
    return {x.mantissa * y.mantissa, x.half * y.half, x.other_half * y.other_half};
  }
}

// scaled * x. Rounded once, and once more if subnormal; the halves come before and after x, so that
// only the result itself can overflow.
template <Range range, class T>
GATEWAVE_INLINE T product(Scaled<range, T> scaled, T x) {
  if constexpr (range == Range::common) {
    return multiply_add(x, scaled.mantissa.high, x * scaled.mantissa.low);
  } else {
    const Pair<T> part = {scaled.mantissa.high * scaled.half, scaled.mantissa.low * scaled.half};
    return multiply_add(x, part.high, x * part.low) * scaled.other_half;
  }
}

template <Range range, class T>
GATEWAVE_INLINE T product(Scaled<range, T> scaled, One) {
  const T whole = rounded(scaled.mantissa);
  return range == Range::common ? whole : whole * scaled.half * scaled.other_half;
}

// scaled * x * y, as above: right as long as it is in range, though x * y be not.
template <Range range, class T>
GATEWAVE_INLINE T product(Scaled<range, T> scaled, T x, T y) {
  const bool swap = magnitude(x) < magnitude(y);
  const T large = swap ? y : x;
  const T small = swap ? x : y;
  const T half = range == Range::common ? T{1} : scaled.half;
  const T rest = range == Range::common ? small : small * scaled.other_half;
  const Pair<T> mantissa = {scaled.mantissa.high * half, scaled.mantissa.low * half};
  const Pair<T> part = large * mantissa;
  const T whole = part.high * rest;
  // Past the greatest number the low part is no correction, but -infinity or NaN.
  constexpr T greatest = std::numeric_limits<T>::max();
  return magnitude(whole) > greatest ? whole : multiply_add(rest, part.high, rest * part.low);
}

template <Range range, class T>
GATEWAVE_INLINE T product(Scaled<range, T> scaled, T x, One) {
  return product(scaled, x);
}

template <Range range, class T>
struct Gate {
  static constexpr T common_limit = std::is_same_v<T, float> ? T(24) : T(200);
  static constexpr T limit = std::is_same_v<T, float> ? T(174) : T(1416);

  Pair<T> mantissa;  // of e^-|u|; not in the common range
  T half;
  T other_half;
  bool negative;
  Pair<T> z;            // e^-|u|, in the common range e^-u
  Pair<T> denominator;  // 1 + z

  GATEWAVE_INLINE Pair<T> inverse() const { return reciprocal(denominator); }

  // s(u).
  GATEWAVE_INLINE Scaled<range, T> value() const { return decayed(inverse()); }

  // s(u) s(-u).
  GATEWAVE_INLINE Scaled<range, T> slope() const {
    const Pair<T> square = inverse() * inverse();
    if constexpr (range == Range::common) {
      return {z * square, T{1}, T{1}};
    } else {
      return {mantissa * square, half, other_half};
    }
  }

  // s(u) + w s(u) s(-u): the derivative of u s(u), for w = u.
  GATEWAVE_INLINE Scaled<range, T> bent(Pair<T> w) const {
    return decayed(bend(w) * (inverse() * inverse()));
  }

  // That, times (1 + z)^2: 1 + z + w z, or on the left of any range 1 + z + w, without its e^-|u|.
  GATEWAVE_INLINE T bend(Pair<T> w) const {
    if constexpr (range == Range::common) {
      return rounded(denominator + w.high * z) + w.low * z.high;
    } else {
      const Pair<T> factor = {negative ? T{1} : z.high, negative ? T{0} : z.low};
      return rounded(denominator + w.high * factor) + w.low * factor.high;
    }
  }

 private:
  // quotient, on the left of any range times e^-|u|.
  GATEWAVE_INLINE Scaled<range, T> decayed(Pair<T> quotient) const {
    if constexpr (range == Range::common) {
      return {quotient, T{1}, T{1}};
    } else {
      const Pair<T> factor = {negative ? mantissa.high : T{1}, negative ? mantissa.low : T{0}};
      return {quotient * factor, negative ? half : T{1}, negative ? other_half : T{1}};
    }
  }
};

template <class T>
GATEWAVE_INLINE Gate<Range::common, T> common_gate(T u, T low) {
  constexpr int bias = Format<T>::exponent_bias;
  const Exponential<T> e = exponential<bias>(-u, -low);
  const T scale = power_of_two<T>(e.biased);
  const Pair<T> z = {e.mantissa.high * scale, e.mantissa.low * scale};
  return {e.mantissa, T{1}, T{1}, false, z, one_plus(z)};
}

template <class T>
GATEWAVE_INLINE Gate<Range::any, T> any_gate(T u, T low) {
  constexpr int bias = 2 * Format<T>::exponent_bias;
  constexpr T limit = Gate<Range::any, T>::limit;
  const bool negative = u < T{0};
  const Exponential<T> e = exponential<bias>(-at_most(magnitude(u), limit), negative ? low : -low);
  const T other_half = power_of_two<T>(e.biased >> 1);
  const T rest = power_of_two<T>(e.biased - (e.biased >> 1));
  const T half = magnitude(u) > limit ? T{0} : rest;
  const T scale = half * other_half;
  const Pair<T> z = {e.mantissa.high * scale, e.mantissa.low * scale};
  return {e.mantissa, half, other_half, negative, z, one_plus(z)};
}

// The gate at u, and at u + low.
template <Range range, class T>
GATEWAVE_INLINE Gate<range, T> gate(T u, T low = T{0}) {
  if constexpr (range == Range::common) {
    return common_gate(u, low);
  } else {
    return any_gate(u, low);
  }
}

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
