// Kernels with logistic gates; s(u) = 1 / (1 + e^-u). mathematics/gate.h has the range reduction.
#pragma once

#include "kernels/kernel.h"
#include "mathematics/gate.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// True if the gate at u is in the common range; false for NaN.
template <class T>
GATEWAVE_INLINE bool is_common_gate(T u) {
  return magnitude(u) <= CommonGate<T>::limit;
}

// True if products of y with factors up to that limit do not overflow; false for NaN.
template <class T>
GATEWAVE_INLINE bool is_common_factor(T y) {
  return magnitude(y) <= std::numeric_limits<T>::max() / (T{2} * CommonGate<T>::limit);
}

// Formula: s(x).
//
// Special values: 0 at -infinity, 1 at infinity; the derivative is 0 at both.
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
    if constexpr (range == Range::common) {
      return T{1} / common_gate<false>(in.a).denominator.high;
    } else {
      return product(any_gate(in.a).value(), One{});
    }
  }

  template <Range range, class T, class Alpha, class G>
  GATEWAVE_INLINE static Gradients<T> gradients(const Arguments<T, Alpha>& in, G g) {
    if constexpr (range == Range::common) {
      const auto x = common_gate<true>(in.a);
      const Pair<T> inverse = x.inverse();
      return {rounded(inverse), product(x.exponential(inverse * inverse), g), T{0}};
    } else {
      const auto x = any_gate(in.a);
      return {product(x.value(), One{}), product(x.slope(), g), T{0}};
    }
  }
};

// Formula: x s(alpha x).
//
// The derivative crosses zero at alpha x = -1.278; there the bound is absolute (`near_zero`).
// Special values for alpha > 0: NaN at -infinity, which is -infinity times 0, and infinity at
// infinity; the derivative is NaN at both.
struct Swish {
  static constexpr const char* name = "Swish";
  static constexpr int inputs = 1;
  static constexpr bool has_alpha = true;
  static constexpr bool has_ranges = true;
  static constexpr Error value_error = {2, 0};
  static constexpr Error partial_error = {2, 0.4};

  template <class T, class Alpha>
  GATEWAVE_INLINE static bool is_common(const Arguments<T, Alpha>& in) {
    return is_common_gate(times(in.a, in.alpha));
  }

  template <Range range, class T, class Alpha>
  GATEWAVE_INLINE static T value(const Arguments<T, Alpha>& in) {
    const Pair<T> u = scaled_argument<range>(in.a, in.alpha);
    if constexpr (range == Range::common) {
      return in.a / common_gate<false>(u.high, u.low).denominator.high;
    } else {
      return product(any_gate(u.high, u.low).value(), in.a);
    }
  }

  template <Range range, class T, class Alpha, class G>
  GATEWAVE_INLINE static Gradients<T> gradients(const Arguments<T, Alpha>& in, G g) {
    const Pair<T> u = scaled_argument<range>(in.a, in.alpha);
    if constexpr (range == Range::common) {
      const auto x = common_gate<true>(u.high, u.low);
      const Pair<T> inverse = x.inverse();
      return {finite_product(inverse, in.a), product(x.slope_numerator(u) * (inverse * inverse), g),
              T{0}};
    } else {
      const auto x = any_gate(u.high, u.low);
      const T slope = product(x.product_slope(u), g);
      return {product(x.value(), in.a), multiply_add(T{0}, in.a, slope), T{0}};
    }
  }
};

// Formula: a s(a) s(b), the SwiGLU with a sigmoid gate.
//
// The derivative for a crosses zero at a = -1.278, as that of Swish. Special values: the IEEE
// products; a zero gate times infinity is NaN.
struct SwiGLUSigmoid {
  static constexpr const char* name = "SwiGLUSigmoid";
  static constexpr int inputs = 2;
  static constexpr bool has_alpha = false;
  static constexpr bool has_ranges = true;
  static constexpr Error value_error = {2, 0};
  static constexpr Error partial_error = {2, 0.4};

  template <class T, class Alpha>
  GATEWAVE_INLINE static bool is_common(const Arguments<T, Alpha>& in) {
    return is_common_gate(in.a) & is_common_gate(in.b);
  }

  template <Range range, class T, class Alpha>
  GATEWAVE_INLINE static T value(const Arguments<T, Alpha>& in) {
    if constexpr (range == Range::common) {
      const Pair<T> a = common_gate<false>(in.a).denominator;
      const Pair<T> b = common_gate<false>(in.b).denominator;
      const T crossed = multiply_add(a.high, b.low, a.low * b.high);
      return in.a / multiply_add(a.high, b.high, crossed);
    } else {
      return product(any_gate(in.a).value() * any_gate(in.b).value(), in.a);
    }
  }

  template <Range range, class T, class Alpha, class G>
  GATEWAVE_INLINE static Gradients<T> gradients(const Arguments<T, Alpha>& in, G g) {
    if constexpr (range == Range::common) {
      const auto a = common_gate<true>(in.a);
      const auto b = common_gate<true>(in.b);
      // One division serves both gates.
      const Pair<T> inverse = reciprocal(a.denominator * b.denominator);
      const Pair<T> a_inverse = inverse * b.denominator;
      const Pair<T> b_inverse = inverse * a.denominator;
      return {finite_product(inverse, in.a),
              product(rounded(a_inverse * inverse) * a.slope_numerator({in.a, T{0}}), g),
              product(b.exponential(b_inverse) * inverse, in.a, g)};
    } else {
      const auto a = any_gate(in.a);
      const auto b = any_gate(in.b);
      const T held = at_least(at_most(in.a, T(1 << 16)), -T(1 << 16));
      const T da = product(a.product_slope({held, T{0}}) * b.value(), g);
      return {product(a.value() * b.value(), in.a), multiply_add(T{0}, in.a, da),
              product(a.value() * b.slope(), in.a, g)};
    }
  }
};

// Formula: a s(alpha a) b, the SwiGLU of language models, and of ONNX since opset 28.
//
// The derivative for a crosses zero at alpha a = -1.278; there the absolute bound is scaled by |b|.
// Special values: the IEEE products; a zero gate times infinity is NaN.
struct SwiGLULinear {
  static constexpr const char* name = "SwiGLULinear";
  static constexpr int inputs = 2;
  static constexpr bool has_alpha = true;
  static constexpr bool has_ranges = true;
  static constexpr Error value_error = {2, 0};
  static constexpr Error partial_error = {2, 0.4};

  template <class T, class Alpha>
  GATEWAVE_INLINE static bool is_common(const Arguments<T, Alpha>& in) {
    return is_common_gate(times(in.a, in.alpha)) & is_common_gate(in.a) & is_common_factor(in.b);
  }

  template <Range range, class T, class Alpha>
  GATEWAVE_INLINE static T value(const Arguments<T, Alpha>& in) {
    const Pair<T> u = scaled_argument<range>(in.a, in.alpha);
    if constexpr (range == Range::common) {
      return quotient(exact_product(in.a, in.b), common_gate<false>(u.high, u.low).denominator);
    } else {
      return product(any_gate(u.high, u.low).value(), in.a, in.b);
    }
  }

  template <Range range, class T, class Alpha, class G>
  GATEWAVE_INLINE static Gradients<T> gradients(const Arguments<T, Alpha>& in, G g) {
    const Pair<T> u = scaled_argument<range>(in.a, in.alpha);
    if constexpr (range == Range::common) {
      const auto a = common_gate<true>(u.high, u.low);
      const Pair<T> inverse = a.inverse();
      return {rounded(exact_product(in.a, in.b) * inverse),
              product(a.slope_numerator(u) * (inverse * inverse), in.b, g),
              product(inverse, in.a, g)};
    } else {
      const auto a = any_gate(u.high, u.low);
      const T da = product(a.product_slope(u), in.b, g);
      return {product(a.value(), in.a, in.b), multiply_add(T{0}, in.a, da),
              product(a.value(), in.a, g)};
    }
  }
};

// Formula: a s(b).
//
// Special values: the IEEE products; NaN for infinite a and b = -infinity.
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
    if constexpr (range == Range::common) {
      return in.a / common_gate<false>(in.b).denominator.high;
    } else {
      return product(any_gate(in.b).value(), in.a);
    }
  }

  template <Range range, class T, class Alpha, class G>
  GATEWAVE_INLINE static Gradients<T> gradients(const Arguments<T, Alpha>& in, G g) {
    if constexpr (range == Range::common) {
      const auto b = common_gate<true>(in.b);
      const Pair<T> inverse = b.inverse();
      return {product(inverse, in.a), product(inverse, g),
              product(b.exponential(inverse * inverse), in.a, g)};
    } else {
      const auto b = any_gate(in.b);
      return {product(b.value(), in.a), product(b.value(), g), product(b.slope(), in.a, g)};
    }
  }
};

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
