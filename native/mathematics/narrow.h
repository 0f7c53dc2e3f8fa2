// Conversions between 16-bit floats and float32, rounded to nearest, ties to even.
#pragma once

#include "mathematics/numeric.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

struct Float16 {
  std::uint16_t bits;
};

struct BFloat16 {
  std::uint16_t bits;
};

GATEWAVE_INLINE float widened(Float16 x) {
  const std::uint32_t pattern = x.bits;
  const std::uint32_t sign = (pattern & 0x8000U) << 16;
  const std::uint32_t rest = (pattern & 0x7fffU) << 13;
  // The exponent biases differ by 112. A product also converts subnormal numbers.
  const float number = from_bits<float>(rest) * 0x1p112F;
  const bool is_finite = rest < (0x7c00U << 13);
  return from_bits<float>((is_finite ? bits(number) : (rest | 0x7f800000U)) | sign);
}

GATEWAVE_INLINE Float16 narrowed_to_float16(float x) {
  const std::uint32_t sign = (bits(x) >> 16) & 0x8000U;
  const float size = magnitude(x);
  // Adding 2^(e + 13) rounds a number of exponent e to 11 bits. The smallest exponent is -14.
  const float held = at_most(size, 0x1p16F);
  const std::uint32_t exponent = bits(held) & 0x7f800000U;
  constexpr std::uint32_t least = (127U - 14U) << 23;
  const float step = from_bits<float>((exponent < least ? least : exponent) + (13U << 23));
  const float whole = (held + step) - step;
  const std::uint32_t normal = (bits(whole) - (112U << 23)) >> 13;
  const std::uint32_t subnormal = bits(whole + 0.5F) & 0x7ffU;
  const bool is_subnormal = whole < 0x1p-14F;
  const std::uint32_t number = is_subnormal ? subnormal : normal;
  const bool is_infinite = whole >= 0x1p16F;
  const std::uint32_t found = is_infinite ? 0x7c00U : number;
  const std::uint32_t pattern = size != size ? 0x7e00U : found;
  return {static_cast<std::uint16_t>(pattern | sign)};
}

GATEWAVE_INLINE float widened(BFloat16 x) {
  return from_bits<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

GATEWAVE_INLINE BFloat16 narrowed_to_bfloat16(float x) {
  const std::uint32_t pattern = bits(x);
  const std::uint32_t nearest = (pattern + 0x7fffU + ((pattern >> 16) & 1U)) >> 16;
  const std::uint32_t quiet = (pattern >> 16) | 0x40U;
  return {static_cast<std::uint16_t>(x != x ? quiet : nearest)};
}

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
