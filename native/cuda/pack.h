// Pack of elements that a GPU thread reads and writes at a time: 16 bytes of each tensor.
#pragma once

#include <cstddef>

#include "mathematics/narrow.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// Type in which values of type T are computed.
template <class T>
using Wide = std::conditional_t<sizeof(T) == 2, float, T>;

template <class T>
struct alignas(16) Pack {
  static constexpr int width = 16 / sizeof(T);
  T elements[width];
};

// A GPU converts in one instruction. The results are the same except for the payload of a NaN.
GATEWAVE_INLINE float wide(Float16 x) {
#ifdef __CUDA_ARCH__
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(x.bits));
  return result;
#else
  return widened(x);
#endif
}

GATEWAVE_INLINE float wide(BFloat16 x) { return widened(x); }
GATEWAVE_INLINE float wide(float x) { return x; }
GATEWAVE_INLINE double wide(double x) { return x; }

GATEWAVE_INLINE void assign(Float16& to, float x) {
#ifdef __CUDA_ARCH__
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(x));
#else
  to = narrowed_to_float16(x);
#endif
}

GATEWAVE_INLINE void assign(BFloat16& to, float x) {
#ifdef __CUDA_ARCH__
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"(x));
#else
  to = narrowed_to_bfloat16(x);
#endif
}

GATEWAVE_INLINE void assign(float& to, float x) { to = x; }
GATEWAVE_INLINE void assign(double& to, double x) { to = x; }

GATEWAVE_INLINE bool is_aligned(const void* tensor) {
  return reinterpret_cast<std::uintptr_t>(tensor) % 16 == 0;
}

// The first `count` elements at `from`; others are 0. `whole` must only be true if `from` is
// aligned and `count` is at least the width of a pack.
template <class T>
GATEWAVE_INLINE Pack<T> loaded(const T* from, std::int64_t count, bool whole) {
  Pack<T> pack = {};
  if (whole) {
    pack = *reinterpret_cast<const Pack<T>*>(from);
  } else {
    GATEWAVE_UNROLL
    for (int k = 0; k < Pack<T>::width; ++k) {
      if (k < count) pack.elements[k] = from[k];
    }
  }
  return pack;
}

template <class T>
GATEWAVE_INLINE void store(const Pack<T>& pack, T* to, std::int64_t count, bool whole) {
  if (whole) {
    *reinterpret_cast<Pack<T>*>(to) = pack;
  } else {
    GATEWAVE_UNROLL
    for (int k = 0; k < Pack<T>::width; ++k) {
      if (k < count) to[k] = pack.elements[k];
    }
  }
}

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
