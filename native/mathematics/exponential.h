// e^w, in a form that neither rounds nor underflows until it is asked to.
#pragma once

#include "mathematics/coefficients.h"
#include "mathematics/numeric.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// ln 2 in two parts: products of the first with the exponents that occur are exact.
template <class T>
GATEWAVE_CONSTANT T ln2[2] = {};
template <>
GATEWAVE_CONSTANT float ln2<float>[2] = {0x1.62ep-1F, 0x1.0bfbe8p-15F};
template <>
GATEWAVE_CONSTANT double ln2<double>[2] = {0x1.62e42fefap-1, 0x1.cf79abc9e3b3ap-40};

template <class T>
inline constexpr T log2e = T(1.4426950408889634);

// e^w = (1 + rest) * 2^n, -0.3 <= rest <= 0.42. The rest's high part is right to 2^-25 (2^-54) of
// 1, with its low part to 2^-29 (2^-58).
template <class T>
struct Exponential {
  Pair<T> rest;
  Bits<T> biased;  // in its lowest 9 (12) bits: n + bias

  GATEWAVE_INLINE Pair<T> mantissa() const {
    const Pair<T> sum = ordered_sum(T{1}, rest.high);
    return {sum.high, sum.low + rest.low};
  }
};

// Of w = high + low; `bias` is added to the exponent on the way, at no cost.
template <int bias, class T>
GATEWAVE_INLINE Exponential<T> exponential(T high, T low) {
  // Adding it leaves the nearest integer in the low bits of the sum.
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

// 2^n, of an exponent with the format's own bias.
template <class T>
GATEWAVE_INLINE T power_of_two(Bits<T> biased) {
  return from_bits<T>(biased << (Format<T>::digits - 1));
}

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
