// Interface of a kernel: an elementwise function, its partial derivatives, and their error bounds.
//
//   struct Name {
//     static constexpr const char* name;       name of the ONNX operator
//     static constexpr int inputs;             1 or 2 tensors, of the same shape
//     static constexpr bool has_alpha;         true if a scalar input, alpha, follows them
//     static constexpr bool has_ranges;        true if `is_common` selects inputs with cheap
//     formulas static constexpr Error value_error;      error bounds static constexpr Error
//     partial_error; is_common(arguments);                    true if Range::common is accurate for
//     these inputs value<range>(arguments); gradients<range>(arguments, g);          the value, and
//     the partial derivatives times g
//   };
//
// The comment of each kernel states its formula, range reduction and special values. native/tests
// measures the errors against native/reference: in 16 bits for all values of each input, in float32
// and float64 for samples and edge cases, and in float32 for all 2^32 inputs of kernels with one
// input (make native-exhaustive).
#pragma once

#include "mathematics/numeric.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// Error bound for float32 and float64: the larger of `ulp` units in the last place of the exact
// result, and `near_zero` times the unit roundoff (2^-24 or 2^-53). 16-bit results are float32
// results, rounded once more.
struct Error {
  double ulp;
  double near_zero;
};

template <class T, class Alpha>
struct Arguments {
  T a;
  T b;  // equal to a if there is only one input
  Alpha alpha;
};

template <class T>
struct Gradients {
  T y;
  T a;
  T b;
};

// alpha * x as an exact pair, clamped to ±2^16, where every gate has reached its limit.
template <Range range, class T>
GATEWAVE_INLINE Pair<T> scaled_argument(T x, T alpha) {
  constexpr T end = T(1 << 16);
  const T u = alpha * x;
  const bool beyond = range == Range::any && magnitude(u) > end;
  return {beyond ? (u < T{0} ? -end : end) : u, beyond ? T{0} : product_error(alpha, x, u)};
}

template <Range range, class T>
GATEWAVE_INLINE Pair<T> scaled_argument(T x, One) {
  constexpr T end = T(1 << 16);
  return {range == Range::any ? at_least(at_most(x, end), -end) : x, T{0}};
}

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
