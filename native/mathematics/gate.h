// The logistic gate s(u) = 1 / (1 + e^-u), its slope, and products with both.
//
// There are two implementations:
//
// - CommonGate, for |u| <= CommonGate::limit. No intermediate result overflows or underflows. With
//   FMA it may round twice where this is faster.
// - AnyGate, for all u. e^-|u| is a mantissa with two halves of its exponent, so tails keep all
//   digits down to the smallest subnormal number. Gates below e^-174 (e^-1416) become 0.
#pragma once

#include "mathematics/exponential.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

template <class T>
struct CommonGate {
  // Up to this |u|, 1 + 2^n is exact for the exponent n of e^-u.
  static constexpr T limit = std::is_same_v<T, float> ? T(15.5) : T(35.5);

  T power;              // e^-u = power + rest, where power is a power of two
  T rest;               // and |rest| < power / 2
  Pair<T> denominator;  // 1 + e^-u

  GATEWAVE_INLINE Pair<T> inverse() const { return reciprocal(denominator); }

  // e^-u times factor.
  GATEWAVE_INLINE Pair<T> exponential(Pair<T> factor) const {
    const T less = multiply_add(rest, factor.high, (power + rest) * factor.low);
    return ordered_sum(power * factor.high, less);
  }

  // 1 + e^-u + w e^-u. With w = u, this over the squared denominator is the derivative of u s(u).
  // The terms cancel near its zero, so the high parts are added exactly.
  GATEWAVE_INLINE Pair<T> slope_numerator(Pair<T> w) const {
    const Pair<T> sum = exact_sum(denominator.high, w.high * power);
    const T less = multiply_add(w.high, rest, multiply_add(w.low, power, denominator.low));
    return ordered_sum(sum.high, sum.low + less);
  }
};

// The gate at u + low. If `exact`, the denominator includes the low part of e^-u.
template <bool exact, class T>
GATEWAVE_INLINE CommonGate<T> common_gate(T u, T low = T{0}) {
  const Exponential<T> e = exponential<Format<T>::exponent_bias>(-u, -low);
  const T power = power_of_two<T>(e.biased);
  const T rest = power * e.rest.high;
  Pair<T> denominator = ordered_sum(T{1} + power, rest);
  if constexpr (exact) denominator.low = multiply_add(power, e.rest.low, denominator.low);
  return {power, rest, denominator};
}

// The number mantissa * half * other_half. Both halves are powers of two up to 1, or 0. One power
// of two could not represent the exponents of the tails.
template <class T>
struct Scaled {
  Pair<T> mantissa;
  T half;
  T other_half;
};

// Exponentials below e^-decay_limit become 0.
template <class T>
inline constexpr T decay_limit = std::is_same_v<T, float> ? T(174) : T(1416);

// e^-(u + low), for u >= 0.
template <class T>
GATEWAVE_INLINE Scaled<T> decay(T u, T low) {
  const Exponential<T> e =
      exponential<2 * Format<T>::exponent_bias>(-at_most(u, decay_limit<T>), -low);
  const T half = power_of_two<T>(e.biased - (e.biased >> 1));
  return {e.mantissa(), u > decay_limit<T> ? T{0} : half, power_of_two<T>(e.biased >> 1)};
}

template <class T>
GATEWAVE_INLINE Scaled<T> operator*(Scaled<T> x, Scaled<T> y) {
  return {x.mantissa * y.mantissa, x.half * y.half, x.other_half * y.other_half};
}

template <class T>
struct AnyGate {
  Scaled<T> decay;  // e^-|u|
  bool negative;
  Pair<T> z;            // e^-|u|
  Pair<T> denominator;  // 1 + e^-|u|

  // s(u).
  GATEWAVE_INLINE Scaled<T> value() const { return decayed(reciprocal(denominator)); }

  // s(u) s(-u).
  GATEWAVE_INLINE Scaled<T> slope() const {
    const Pair<T> inverse = reciprocal(denominator);
    return {decay.mantissa * (inverse * inverse), decay.half, decay.other_half};
  }

  // s(u) + w s(u) s(-u): with w = u, the derivative of u s(u).
  GATEWAVE_INLINE Scaled<T> product_slope(Pair<T> w) const {
    const Pair<T> inverse = reciprocal(denominator);
    // Multiplied by (1 + z)^2, this is 1 + z + w z for u >= 0. For u < 0 it is 1 + z + w, times
    // e^-|u|, which `decayed` applies.
    const Pair<T> factor = {negative ? T{1} : z.high, negative ? T{0} : z.low};
    const T numerator = rounded(denominator + w.high * factor) + w.low * factor.high;
    return decayed(numerator * (inverse * inverse));
  }

 private:
  // The quotient, times e^-|u| for negative u.
  GATEWAVE_INLINE Scaled<T> decayed(Pair<T> quotient) const {
    const Pair<T> factor = {negative ? decay.mantissa.high : T{1},
                            negative ? decay.mantissa.low : T{0}};
    return {quotient * factor, negative ? decay.half : T{1}, negative ? decay.other_half : T{1}};
  }
};

template <class T>
GATEWAVE_INLINE AnyGate<T> any_gate(T u, T low = T{0}) {
  const bool negative = u < T{0};
  const Scaled<T> e = decay(magnitude(u), negative ? -low : low);
  const T scale = e.half * e.other_half;
  const Pair<T> z = {e.mantissa.high * scale, e.mantissa.low * scale};
  return {e, negative, z, one_plus(z)};
}

// factor * x, rounded once, and once more if the result is subnormal. One half of the exponent is
// multiplied before x and the other after it, so only the result can overflow.
template <class T>
GATEWAVE_INLINE T product(Scaled<T> factor, T x) {
  const Pair<T> part = {factor.mantissa.high * factor.half, factor.mantissa.low * factor.half};
  return product(part, x) * factor.other_half;
}

template <class T>
GATEWAVE_INLINE T product(Scaled<T> factor, One) {
  return rounded(factor.mantissa) * factor.half * factor.other_half;
}

// factor * x * y, accurate if the result is in range, even if x * y is not. The factor may be
// slightly above 1. To avoid overflow, the larger number is halved and the smaller one doubled.
template <class T>
GATEWAVE_INLINE T product(Pair<T> factor, T x, T y) {
  const bool swap = magnitude(x) < magnitude(y);
  const T large = (swap ? y : x) * T(0.5);
  const T small = (swap ? x : y) * T{2};
  return product(large * factor, small);
}

// factor * x * y. If the smaller number is below 1, both halves of the exponent are multiplied
// elsewhere: the product with it might underflow before the larger number is multiplied.
template <class T>
GATEWAVE_INLINE T product(Scaled<T> factor, T x, T y) {
  const bool swap = magnitude(x) < magnitude(y);
  const T small = swap ? x : y;
  const T before = magnitude(small) < T{1} ? T{1} : factor.other_half;
  const T after = magnitude(small) < T{1} ? factor.other_half : T{1};
  const Pair<T> part = {factor.mantissa.high * factor.half, factor.mantissa.low * factor.half};
  const Pair<T> most = (swap ? y : x) * T(0.5) * part;
  return product(most, small * before * T{2}) * after;
}

template <class Factor, class T>
GATEWAVE_INLINE T product(Factor factor, T x, One) {
  return product(factor, x);
}

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
