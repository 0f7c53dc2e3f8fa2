// e^w, in a form that neither rounds nor underflows until it is asked to.
#pragma once

#include "mathematics/coefficients.h"
#include "mathematics/numeric.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// ln 2 in two parts: products of the first with the exponents that occur are exact.
template <class T>
inline constexpr T ln2[2] = {};
template <>
inline constexpr float ln2<float>[2] = {0x1.62ep-1F, 0x1.0bfbe8p-15F};
template <>
inline constexpr double ln2<double>[2] = {0x1.62e42fefap-1, 0x1.cf79abc9e3b3ap-40};

template <class T>
inline constexpr T log2e = T(1.4426950408889634);

// e^w = mantissa * 2^n. The mantissa is from 0.7 to 1.42, with a relative error of 2^-24.7
// (2^-53.7).
template <class T>
struct Exponential {
  Pair<T> mantissa;
  Bits<T> biased;  // in its lowest 9 (12) bits: n + bias
};

// Of w = high + low; `bias` is added to the exponent on the way, at no cost.
template <int bias, class T>
GATEWAVE_INLINE Exponential<T> exponential(T high, T low) {
  // Adding it leaves the nearest integer in the low bits of the sum.
  constexpr T rounder = T(Bits<T>{3} << (Format<T>::digits - 2)) + T(bias);
  const T shifted = multiply_add(high, log2e<T>, rounder);
  const T n = shifted - rounder;
  const T s = multiply_add(n, -ln2<T>[1], multiply_add(n, -ln2<T>[0], high)) + low;
  const T square = s * s;
  const T rest = multiply_add(square, polynomial(exponential_terms<T>, s, square), s);
  return {ordered_sum(T{1}, rest), bits(shifted)};
}

// 2^n, of an exponent with the format's own bias.
template <class T>
GATEWAVE_INLINE T power_of_two(Bits<T> biased) {
  return from_bits<T>(biased << (Format<T>::digits - 1));
}

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
