// What a kernel is: one elementwise function, its partial derivatives, and what is promised of
// them.
//
//   struct Name {
//     static constexpr const char* name;       the ONNX operator's
//     static constexpr int inputs;             1 or 2 tensors, of one shape
//     static constexpr bool has_alpha;         whether a scalar, alpha, follows them
//     static constexpr bool has_ranges;        whether `is_common` picks out inputs that are cheap
//     static constexpr Error value_error;      the largest errors
//     static constexpr Error partial_error;
//     is_common(arguments);                    whether Range::common will do
//     value<range>(arguments);
//     gradients<range>(arguments, g);          that, and the partial derivatives times g, or One
//   };
#pragma once

#include "mathematics/numeric.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// The largest error, in float32 and float64 alike: `ulp` units in the last place of the exact
// result, or `near_zero` roundings of 1 (2^-24, or 2^-53), whichever is more. 16-bit results are
// float32 results, rounded once more.
struct Error {
  double ulp;
  double near_zero;
};

template <class T, class Alpha>
struct Arguments {
  T a;
  T b;  // equal to a, where there is one input only
  Alpha alpha;
};

template <class T>
struct Gradients {
  T y;
  T a;
  T b;
};

// alpha * x, exactly. Beyond what any gate can tell from infinity it is held there.
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
