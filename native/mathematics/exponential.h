// e^w as an unrounded mantissa and an exponent, so that callers decide about rounding and
// underflow.
#pragma once

#include "mathematics/coefficients.h"
#include "mathematics/numeric.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// ln 2 in two parts (Cody and Waite): the first has so few bits that its products with the
// exponents n are exact.
template <class T>
GATEWAVE_CONSTANT T ln2[2] = {};
template <>
GATEWAVE_CONSTANT float ln2<float>[2] = {0x1.62ep-1F, 0x1.0bfbe8p-15F};
template <>
GATEWAVE_CONSTANT double ln2<double>[2] = {0x1.62e42fefap-1, 0x1.cf79abc9e3b3ap-40};

template <class T>
inline constexpr T log2e = T(1.4426950408889634);

// e^w = (1 + rest) * 2^n with -0.3 <= rest <= 0.42. The absolute error of rest.high is at most
// 2^-25 (2^-54 in float64); with rest.low it is at most 2^-29 (2^-58).
template <class T>
struct Exponential {
  Pair<T> rest;
  Bits<T> biased;  // n + bias, in the lowest 9 (12) bits

  GATEWAVE_INLINE Pair<T> mantissa() const {
    const Pair<T> sum = ordered_sum(T{1}, rest.high);
    return {sum.high, sum.low + rest.low};
  }
};

// e^(high + low). Range reduction: n is the integer nearest to w / ln 2, s = w - n ln 2, and
// e^s = 1 + s + s^2 p(s) with the polynomial p of coefficients.py. `bias` is part of the rounding
// constant, so adding it to the exponent costs no instruction.
template <int bias, class T>
GATEWAVE_INLINE Exponential<T> exponential(T high, T low) {
  // After adding 1.5 * 2^(digits - 1), the low bits of the sum are the nearest integer.
  constexpr T rounder = T(Bits<T>{3} << (Format<T>::digits - 2)) + T(bias);
  const T shifted = multiply_add(high, log2e<T>, rounder);
  const T n = shifted - rounder;
  const T exact = multiply_add(n, -ln2<T>[0], high);
  const T s = multiply_add(n, -ln2<T>[1], exact) + low;
  const T s_low = multiply_add(n, -ln2<T>[1], exact - s) + low;
  const T square = s * s;
  const T curve = square * polynomial(exponential_terms<T>, s, square);
  const Pair<T> rest = ordered_sum(s, curve);
  return {{rest.high, rest.low + s_low}, bits(shifted)};
}

// 2^n for an exponent that includes the format's bias.
template <class T>
GATEWAVE_INLINE T power_of_two(Bits<T> biased) {
  return from_bits<T>(biased << (Format<T>::digits - 1));
}

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
