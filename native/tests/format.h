// Simple reference of floating-point formats: bit patterns, and rounding of exact results.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "cpu/table.h"

namespace gatewave::tests {

struct Format {
  const char* name;
  std::size_t bytes;
  int digits;
  int least_exponent;
  int greatest_exponent;

  bool is_narrow() const { return bytes == 2; }
};

inline const Format& format(cpu::Type type) {
  static constexpr Format all[] = {{"float32", 4, 24, -126, 127},
                                   {"float64", 8, 53, -1022, 1023},
                                   {"float16", 2, 11, -14, 15},
                                   {"bfloat16", 2, 8, -126, 127}};
  return all[static_cast<int>(type)];
}

// Unit in the last place of x: the distance between neighbouring numbers.
template <class Real>
Real unit(Real x, const Format& f) {
  int exponent = f.least_exponent;
  if (std::fabs(x) >= std::ldexp(Real(1), f.greatest_exponent)) {
    exponent = f.greatest_exponent;
  } else if (std::fabs(x) >= std::ldexp(Real(1), f.least_exponent)) {
    exponent = std::ilogb(x);
  }
  return std::ldexp(Real(1), exponent - f.digits + 1);
}

// The number nearest to x, ties to even. Infinity beyond the largest number.
template <class Real>
Real nearest(Real x, const Format& f) {
  if (!std::isfinite(x)) return x;
  const Real whole = std::nearbyint(x / unit(x, f)) * unit(x, f);
  if (std::fabs(whole) < std::ldexp(Real(1), f.greatest_exponent + 1)) return whole;
  return std::copysign(std::numeric_limits<Real>::infinity(), x);
}

// The number of a 16-bit pattern.
inline double decoded(std::uint16_t pattern, const Format& f) {
  const int mantissa_bits = f.digits - 1;
  const int greatest = f.greatest_exponent - f.least_exponent + 2;
  const int exponent = (pattern & 0x7fff) >> mantissa_bits;
  const int mantissa = pattern & ((1 << mantissa_bits) - 1);
  double size = 0;
  if (exponent == greatest) {
    size = mantissa == 0 ? std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  } else if (exponent == 0) {
    size = std::ldexp(mantissa, f.least_exponent - mantissa_bits);
  } else {
    size = std::ldexp(mantissa + (1 << mantissa_bits),
                      exponent - 1 + f.least_exponent - mantissa_bits);
  }
  return (pattern & 0x8000) != 0 ? -size : size;
}

// The 16-bit pattern of the number nearest to x. NaN gives the default quiet NaN.
inline std::uint16_t encoded(double x, const Format& f) {
  const int mantissa_bits = f.digits - 1;
  const int greatest = f.greatest_exponent - f.least_exponent + 2;
  const double size = std::fabs(nearest(x, f));
  int pattern = 0;
  if (std::isnan(x)) {
    pattern = (greatest << mantissa_bits) | (1 << (mantissa_bits - 1));
  } else if (std::isinf(size)) {
    pattern = greatest << mantissa_bits;
  } else {
    // For a normal number, the leading bit of the mantissa adds 1 to the exponent field.
    const int exponent =
        size < std::ldexp(1.0, f.least_exponent) ? 0 : std::ilogb(size) - f.least_exponent;
    pattern = (exponent << mantissa_bits) + static_cast<int>(size / unit(size, f));
  }
  return static_cast<std::uint16_t>(pattern | (std::signbit(x) ? 0x8000 : 0));
}

}  // namespace gatewave::tests
