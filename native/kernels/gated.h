#pragma once

#include "kernels/kernel.h"
#include "mathematics/gate.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// Whether the gate at u is easy. No NaN is.
template <class T>
GATEWAVE_INLINE bool is_common_gate(T u) {
  return magnitude(u) <= Gate<Range::common, T>::common_limit;
}

// s(x).
struct Sigmoid {
  static constexpr const char* name = "Sigmoid";
  static constexpr int inputs = 1;
  static constexpr bool has_alpha = false;
  static constexpr bool has_ranges = true;
  static constexpr Error value_error = {2, 0};
  static constexpr Error partial_error = {2, 0};

  template <class T, class Alpha>
  GATEWAVE_INLINE static bool is_common(const Arguments<T, Alpha>& in) {
    return is_common_gate(in.a);
  }

  template <Range range, class T, class Alpha>
  GATEWAVE_INLINE static T value(const Arguments<T, Alpha>& in) {
    return product(gate<range>(in.a).value(), One{});
  }

  template <Range range, class T, class Alpha, class G>
  GATEWAVE_INLINE static Partials<T> partials(const Arguments<T, Alpha>& in, G g) {
    return {product(gate<range>(in.a).slope(), g), T{0}};
  }
};

// x s(alpha x). NaN at minus infinity, and so is the derivative at both.
struct Swish {
  static constexpr const char* name = "Swish";
  static constexpr int inputs = 1;
  static constexpr bool has_alpha = true;
  static constexpr bool has_ranges = true;
  static constexpr Error value_error = {2, 0};
  static constexpr Error partial_error = {2, 1.6};

  template <class T, class Alpha>
  GATEWAVE_INLINE static bool is_common(const Arguments<T, Alpha>& in) {
    return is_common_gate(times(in.a, in.alpha));
  }

  template <Range range, class T, class Alpha>
  GATEWAVE_INLINE static T value(const Arguments<T, Alpha>& in) {
    const Pair<T> u = scaled_argument(in.a, in.alpha);
    return product(gate<range>(u.high, u.low).value(), in.a);
  }

  template <Range range, class T, class Alpha, class G>
  GATEWAVE_INLINE static Partials<T> partials(const Arguments<T, Alpha>& in, G g) {
    const Pair<T> u = scaled_argument(in.a, in.alpha);
    const T slope = product(gate<range>(u.high, u.low).bent(u), g);
    return {range == Range::common ? slope : multiply_add(T{0}, in.a, slope), T{0}};
  }
};

// a s(a) s(b): SwiGLU with a gate that goes through a sigmoid.
struct SwiGLUSigmoid {
  static constexpr const char* name = "SwiGLUSigmoid";
  static constexpr int inputs = 2;
  static constexpr bool has_alpha = false;
  static constexpr bool has_ranges = true;
  static constexpr Error value_error = {2, 0};
  static constexpr Error partial_error = {2, 1.6};

  template <class T, class Alpha>
  GATEWAVE_INLINE static bool is_common(const Arguments<T, Alpha>& in) {
    return is_common_gate(in.a) & is_common_gate(in.b);
  }

  template <Range range, class T, class Alpha>
  GATEWAVE_INLINE static T value(const Arguments<T, Alpha>& in) {
    const auto a = gate<range>(in.a);
    const auto b = gate<range>(in.b);
    if constexpr (range == Range::common) {
      const Pair<T> inverse = reciprocal(a.denominator * b.denominator);
      return multiply_add(in.a, inverse.high, in.a * inverse.low);
    } else {
      return product(a.value() * b.value(), in.a);
    }
  }

  template <Range range, class T, class Alpha, class G>
  GATEWAVE_INLINE static Partials<T> partials(const Arguments<T, Alpha>& in, G g) {
    const auto a = gate<range>(in.a);
    const auto b = gate<range>(in.b);
    if constexpr (range == Range::common) {
      // One division for all.
      const Pair<T> inverse = reciprocal(a.denominator * b.denominator);
      const Pair<T> a_inverse = inverse * b.denominator;
      const Pair<T> b_inverse = inverse * a.denominator;
      const T bend = a.bend({in.a, T{0}});
      const T b_slope = rounded(b.z * b_inverse);
      return {product(bend * (a_inverse * inverse), g), product(b_slope * (in.a * inverse), g)};
    } else {
      const T held = at_least(at_most(in.a, T(1 << 16)), -T(1 << 16));
      const T da = product(a.bent({held, T{0}}) * b.value(), g);
      return {multiply_add(T{0}, in.a, da), product(a.value() * b.slope(), in.a, g)};
    }
  }
};

// a s(alpha a) b: what language models call SwiGLU, and ONNX since opset 28.
struct SwiGLULinear {
  static constexpr const char* name = "SwiGLULinear";
  static constexpr int inputs = 2;
  static constexpr bool has_alpha = true;
  static constexpr bool has_ranges = true;
  static constexpr Error value_error = {2, 0};
  static constexpr Error partial_error = {2, 1.6};

  template <class T, class Alpha>
  GATEWAVE_INLINE static bool is_common(const Arguments<T, Alpha>& in) {
    return is_common_gate(times(in.a, in.alpha));
  }

  template <Range range, class T, class Alpha>
  GATEWAVE_INLINE static T value(const Arguments<T, Alpha>& in) {
    const Pair<T> u = scaled_argument(in.a, in.alpha);
    return product(gate<range>(u.high, u.low).value(), in.a, in.b);
  }

  template <Range range, class T, class Alpha, class G>
  GATEWAVE_INLINE static Partials<T> partials(const Arguments<T, Alpha>& in, G g) {
    const Pair<T> u = scaled_argument(in.a, in.alpha);
    const auto a = gate<range>(u.high, u.low);
    const T da = product(a.bent(u), in.b, g);
    const T db = product(a.value(), in.a, g);
    return {range == Range::common ? da : multiply_add(T{0}, in.a, da), db};
  }
};

// a s(b).
struct GLU {
  static constexpr const char* name = "GLU";
  static constexpr int inputs = 2;
  static constexpr bool has_alpha = false;
  static constexpr bool has_ranges = true;
  static constexpr Error value_error = {2, 0};
  static constexpr Error partial_error = {2, 0};

  template <class T, class Alpha>
  GATEWAVE_INLINE static bool is_common(const Arguments<T, Alpha>& in) {
    return is_common_gate(in.b);
  }

  template <Range range, class T, class Alpha>
  GATEWAVE_INLINE static T value(const Arguments<T, Alpha>& in) {
    return product(gate<range>(in.b).value(), in.a);
  }

  template <Range range, class T, class Alpha, class G>
  GATEWAVE_INLINE static Partials<T> partials(const Arguments<T, Alpha>& in, G g) {
    const auto b = gate<range>(in.b);
    return {product(b.value(), g), product(b.slope(), in.a, g)};
  }
};

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
