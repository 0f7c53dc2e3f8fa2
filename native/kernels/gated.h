#pragma once

#include "kernels/kernel.h"
#include "mathematics/gate.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// Whether the gate at u is easy. No NaN is.
template <class T>
GATEWAVE_INLINE bool is_common_gate(T u) {
  return magnitude(u) <= CommonGate<T>::limit;
}

// Whether products with y, of factors up to that limit, stay in range. No NaN is.
template <class T>
GATEWAVE_INLINE bool is_common_factor(T y) {
  return magnitude(y) <= std::numeric_limits<T>::max() / (T{2} * CommonGate<T>::limit);
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

// x s(alpha x). NaN at minus infinity, and so is the derivative at both.
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
      return {finite_product(inverse, in.a), product(x.bend(u) * (inverse * inverse), g), T{0}};
    } else {
      const auto x = any_gate(u.high, u.low);
      const T slope = product(x.bent(u), g);
      return {product(x.value(), in.a), multiply_add(T{0}, in.a, slope), T{0}};
    }
  }
};

// a s(a) s(b): SwiGLU with a gate that goes through a sigmoid.
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
      // One division for all.
      const Pair<T> inverse = reciprocal(a.denominator * b.denominator);
      const Pair<T> a_inverse = inverse * b.denominator;
      const Pair<T> b_inverse = inverse * a.denominator;
      return {finite_product(inverse, in.a),
              product(rounded(a_inverse * inverse) * a.bend({in.a, T{0}}), g),
              product(b.exponential(b_inverse) * inverse, in.a, g)};
    } else {
      const auto a = any_gate(in.a);
      const auto b = any_gate(in.b);
      const T held = at_least(at_most(in.a, T(1 << 16)), -T(1 << 16));
      const T da = product(a.bent({held, T{0}}) * b.value(), g);
      return {product(a.value() * b.value(), in.a), multiply_add(T{0}, in.a, da),
              product(a.value() * b.slope(), in.a, g)};
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
              product(a.bend(u) * (inverse * inverse), in.b, g), product(inverse, in.a, g)};
    } else {
      const auto a = any_gate(u.high, u.low);
      const T da = product(a.bent(u), in.b, g);
      return {product(a.value(), in.a, in.b), multiply_add(T{0}, in.a, da),
              product(a.value(), in.a, g)};
    }
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
