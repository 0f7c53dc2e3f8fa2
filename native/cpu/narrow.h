// Conversions between arrays of 16-bit floats and float32.
#pragma once

#include <cstddef>

#include "mathematics/narrow.h"

#ifdef __F16C__
#include <immintrin.h>
#endif

namespace gatewave {
inline namespace GATEWAVE_TARGET {

inline void widen(const Float16* from, float* to, std::ptrdiff_t count) {
  std::ptrdiff_t i = 0;
#ifdef __F16C__
  for (; i + 8 <= count; i += 8) {
    const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(narrow));
  }
#endif
  for (; i < count; ++i) to[i] = widened(from[i]);
}

inline void narrow(const float* from, Float16* to, std::ptrdiff_t count) {
  std::ptrdiff_t i = 0;
#ifdef __F16C__
  for (; i + 8 <= count; i += 8) {
    const __m256 wide = _mm256_loadu_ps(from + i);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm256_cvtps_ph(wide, _MM_FROUND_TO_NEAREST_INT));
  }
#endif
  for (; i < count; ++i) to[i] = narrowed_to_float16(from[i]);
}

inline void widen(const BFloat16* from, float* to, std::ptrdiff_t count) {
  for (std::ptrdiff_t i = 0; i < count; ++i) to[i] = widened(from[i]);
}

inline void narrow(const float* from, BFloat16* to, std::ptrdiff_t count) {
  for (std::ptrdiff_t i = 0; i < count; ++i) to[i] = narrowed_to_bfloat16(from[i]);
}

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
