// IEEE 754 formats, and pairs of numbers with twice the digits (double-double arithmetic).
//
// Everything here compiles for the host, where loops over it are vectorised, and for CUDA: without
// branches, tables or calls. The compiler must not contract a*b+c to FMA (-ffp-contract=off,
// -fmad=false): the error terms below are exact only if each operation is rounded separately.
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#ifdef __CUDACC__
#define GATEWAVE_INLINE __host__ __device__ __forceinline__
// Device code cannot read constants of the host. nvcc folds these into the instructions.
#define GATEWAVE_CONSTANT __device__ constexpr
#define GATEWAVE_UNROLL _Pragma("unroll")
#else
#define GATEWAVE_INLINE inline __attribute__((always_inline))
#define GATEWAVE_CONSTANT inline constexpr
#define GATEWAVE_UNROLL _Pragma("GCC unroll 64")
#endif

// Each instruction set compiles this code in its own namespace. Otherwise the linker would merge
// the versions of an inline function, and a processor without AVX-512 might get the AVX-512 one.
#ifndef GATEWAVE_TARGET
#define GATEWAVE_TARGET generic
#endif

namespace gatewave {
inline namespace GATEWAVE_TARGET {

template <class T>
struct Format;

template <>
struct Format<float> {
  using Bits = std::uint32_t;
  static constexpr int digits = 24;
  static constexpr int exponent_bias = 127;
};

template <>
struct Format<double> {
  using Bits = std::uint64_t;
  static constexpr int digits = 53;
  static constexpr int exponent_bias = 1023;
};

template <class T>
using Bits = typename Format<T>::Bits;

template <class T>
GATEWAVE_INLINE Bits<T> bits(T x) {
  return __builtin_bit_cast(Bits<T>, x);
}

template <class T>
GATEWAVE_INLINE T from_bits(Bits<T> pattern) {
  return __builtin_bit_cast(T, pattern);
}

template <class T>
GATEWAVE_INLINE T magnitude(T x) {
  return from_bits<T>(bits(x) & (~Bits<T>{0} >> 1));
}

// The sign bit of x, to be combined with another number by exclusive-or.
template <class T>
GATEWAVE_INLINE Bits<T> sign(T x) {
  return bits(x) & ~(~Bits<T>{0} >> 1);
}

// Minimum and maximum with a bound. NaN stays NaN in both.
template <class T>
GATEWAVE_INLINE T at_most(T x, T bound) {
  return x > bound ? bound : x;
}

template <class T>
GATEWAVE_INLINE T at_least(T x, T bound) {
  return x < bound ? bound : x;
}

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__CUDA_ARCH__)
inline constexpr bool has_fma = true;
#else
inline constexpr bool has_fma = false;
#endif

GATEWAVE_INLINE float fma_of(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
GATEWAVE_INLINE double fma_of(double a, double b, double c) { return __builtin_fma(a, b, c); }

// a*b + c, rounded once with FMA, and twice without.
template <class T>
GATEWAVE_INLINE T multiply_add(T a, T b, T c) {
  if constexpr (has_fma) {
    return fma_of(a, b, c);
  } else {
    return a * b + c;
  }
}

// The rounding error a*b - product of a product. It is exact with FMA, and for float. For double
// without FMA, the factors are split into halves (Dekker); their products are exact except for the
// last, whose rounding error is negligible.
template <class T>
GATEWAVE_INLINE T product_error(T a, T b, T product) {
  if constexpr (has_fma) {
    return fma_of(a, b, -product);
  } else if constexpr (std::is_same_v<T, float>) {
    return static_cast<float>(static_cast<double>(a) * static_cast<double>(b) -
                              static_cast<double>(product));
  } else {
    constexpr Bits<T> upper_half = ~Bits<T>{0} << 27;
    const T a_high = from_bits<T>(bits(a) & upper_half);
    const T b_high = from_bits<T>(bits(b) & upper_half);
    const T a_low = a - a_high;
    const T b_low = b - b_high;
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low;
  }
}

// Range of the inputs. Most are in the common range, where cheaper formulas are accurate. Each
// kernel defines its common range.
enum class Range { common, any };

// The factor 1 as a type: multiplications by it compile to nothing.
struct One {};

template <class T>
GATEWAVE_INLINE T times(T x, T factor) {
  return x * factor;
}

template <class T>
GATEWAVE_INLINE T times(T x, One) {
  return x;
}

// The unevaluated sum high + low, with |low| much smaller than |high|.
template <class T>
struct Pair {
  T high;
  T low;
};

// x + y exactly, for |x| >= |y| (Fast2Sum), or if y is small compared with the needed precision of
// x.
template <class T>
GATEWAVE_INLINE Pair<T> ordered_sum(T x, T y) {
  const T high = x + y;
  return {high, y - (high - x)};
}

// x + y exactly, for any x and y (2Sum).
template <class T>
GATEWAVE_INLINE Pair<T> exact_sum(T x, T y) {
  const T high = x + y;
  const T rest = high - y;
  return {high, (x - rest) + (y - (high - rest))};
}

// 1 + y.
template <class T>
GATEWAVE_INLINE Pair<T> one_plus(Pair<T> y) {
  const Pair<T> sum = exact_sum(T{1}, y.high);
  return {sum.high, sum.low + y.low};
}

template <class T>
GATEWAVE_INLINE Pair<T> operator+(Pair<T> x, Pair<T> y) {
  const Pair<T> sum = exact_sum(x.high, y.high);
  return {sum.high, sum.low + (x.low + y.low)};
}

template <class T>
GATEWAVE_INLINE Pair<T> exact_product(T x, T y) {
  const T high = x * y;
  return {high, product_error(x, y, high)};
}

template <class T>
GATEWAVE_INLINE Pair<T> operator*(Pair<T> x, Pair<T> y) {
  const T high = x.high * y.high;
  const T low = product_error(x.high, y.high, high);
  return {high, multiply_add(x.high, y.low, multiply_add(x.low, y.high, low))};
}

template <class T>
GATEWAVE_INLINE Pair<T> operator*(T x, Pair<T> y) {
  const T high = x * y.high;
  return {high, multiply_add(x, y.low, product_error(x, y.high, high))};
}

template <class T>
GATEWAVE_INLINE T rounded(Pair<T> x) {
  return x.high + x.low;
}

// x * factor, rounded once. The result must be in range.
template <class T>
GATEWAVE_INLINE T finite_product(Pair<T> x, T factor) {
  return multiply_add(factor, x.high, factor * x.low);
}

// x * factor, also if it overflows. The low part is then infinite as well, and is ignored: the sum
// could be infinity - infinity.
template <class T>
GATEWAVE_INLINE T product(Pair<T> x, T factor) {
  const T whole = x.high * factor;
  constexpr T greatest = std::numeric_limits<T>::max();
  return magnitude(whole) > greatest ? whole : finite_product(x, factor);
}

template <class T>
GATEWAVE_INLINE T product(Pair<T> x, One) {
  return rounded(x);
}

// 1 / x.
template <class T>
GATEWAVE_INLINE Pair<T> reciprocal(Pair<T> x) {
  const T high = T{1} / x.high;
  const T miss = product_error(high, x.high, T{1});
  return {high, -high * multiply_add(high, x.low, miss)};
}

// x / y, with an error little above half a unit in the last place.
template <class T>
GATEWAVE_INLINE T quotient(Pair<T> x, Pair<T> y) {
  const T inverse = T{1} / y.high;
  const T high = x.high * inverse;
  const T rest = x.low - product_error(high, y.high, x.high);
  return multiply_add(multiply_add(-high, y.low, rest), inverse, high);
}

// c[first] + c[first + 1] x + c[first + 2] x^2 + ..., with `terms` terms, by Estrin's scheme. It
// combines pairs of neighbours first, then pairs of pairs, so its latency is lower than Horner's.
template <int first, int terms, class T, int count>
GATEWAVE_INLINE T estrin(const T (&c)[count], T x, T square) {
  if constexpr (terms == 1) {
    return c[first];
  } else if constexpr (terms == 2) {
    return multiply_add(c[first + 1], x, c[first]);
  } else {
    constexpr int half = terms > 8 ? 8 : terms > 4 ? 4 : 2;
    const T fourth = square * square;
    const T power = half == 2 ? square : half == 4 ? fourth : fourth * fourth;
    return multiply_add(estrin<first + half, terms - half>(c, x, square), power,
                        estrin<first, half>(c, x, square));
  }
}

// The polynomial c at x, by Estrin's scheme, for callers that have already computed the square.
template <class T, int count>
GATEWAVE_INLINE T polynomial(const T (&c)[count], T x, T square) {
  static_assert(count <= 16);
  return estrin<0, count>(c, x, square);
}

// c[first] + c[first + 1] x + ..., by Horner's scheme, which has the fewest operations.
template <int first = 0, class T, int count>
GATEWAVE_INLINE T polynomial(const T (&c)[count], T x) {
  T sum = c[count - 1];
  GATEWAVE_UNROLL
  for (int k = count - 2; k >= first; --k) sum = multiply_add(sum, x, c[k]);
  return sum;
}

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
