// References for the kernels: their formulas, written directly, in wider floats.
//
// long double is the reference for float64: it has 64 bits on x86-64 and 113 on AArch64. double is
// the reference for float32 when all values are tested. Arguments of exponentials need more bits: a
// rounding error of u is multiplied by u in e^u, which leaves too few of 64 bits. Arguments are
// therefore computed in a still wider type, and the function is corrected by their rounding error.
#pragma once

#include <cfloat>
#include <cmath>
#include <limits>
#include <numbers>
#include <string_view>

namespace gatewave::reference {

template <class Real>
struct Wider;
template <>
struct Wider<double> {
  using Type = long double;
};
template <>
struct Wider<long double> {
#if LDBL_MANT_DIG == 64
  using Type = __float128;
#else
  using Type = long double;
#endif
};
template <class Real>
using Wide = typename Wider<Real>::Type;

template <class Real>
struct Point {
  Real a;
  Real b;
  Real alpha;
};

template <class Real>
struct Results {
  Real y;
  Real partials[2];
};

template <class Real>
inline constexpr Real pi = std::numbers::pi_v<Real>;

// A constant to 106 bits.
template <class Real>
constexpr Wide<Real> sum(double high, double low) {
  return static_cast<Wide<Real>>(high) + static_cast<Wide<Real>>(low);
}

// A wide number as its rounded value and the rounding error.
template <class Real>
struct Split {
  Real high;
  Real low;

  explicit Split(Wide<Real> x) : high(static_cast<Real>(x)), low(0) {
    if (std::isfinite(high)) low = static_cast<Real>(x - static_cast<Wide<Real>>(high));
  }
};

// The logistic gate at u and at -u. The latter is computed separately, because 1 - value cancels.
template <class Real>
struct Gate {
  Real value;
  Real other;

  explicit Gate(Wide<Real> u) {
    const Split<Real> split(u);
    const Real right = 1 / (1 + std::exp(-split.high));
    const Real left = 1 / (1 + std::exp(split.high));
    value = right + right * left * split.low;
    other = left - right * left * split.low;
  }

  Real slope() const { return value * other; }
};

// The derivative of u s(u).
template <class Real>
Real product_slope(Wide<Real> u) {
  const Gate<Real> gate(u);
  return gate.value + static_cast<Real>(u) * gate.slope();
}

// The sum of (-1)^k (pi x)^2k / (2k + 1)!, and of its derivative, for |x| up to 1/2.
template <class Real>
Results<Real> sinc_series(Real x) {
  Real term = 1;
  Real y = 1;
  Real slope = 0;
  for (int k = 1; k <= 20; ++k) {
    const Real before = term;
    const Real factor = -pi<Real> * pi<Real> / static_cast<Real>(2 * k * (2 * k + 1));
    term = before * factor * x * x;
    y += term;
    slope += before * factor * x * static_cast<Real>(2 * k);
  }
  return {y, {slope, 0}};
}

template <class Real>
Results<Real> sinc(Point<Real> p) {
  const Real x = p.a;
  if (std::isinf(x)) return {0, {0, 0}};
  if (std::fabs(x) <= Real(0.5)) return sinc_series(x);
  const Real nearest = std::nearbyint(x);
  const Real sign = std::fmod(nearest, Real(2)) == 0 ? Real(1) : Real(-1);
  const Real y = sign * std::sin(pi<Real> * (x - nearest)) / (pi<Real> * x);
  return {y, {(sign * std::cos(pi<Real> * (x - nearest)) - y) / x, 0}};
}

template <class Real>
Results<Real> sigmoid(Point<Real> p) {
  const Gate<Real> gate(p.a);
  return {gate.value, {gate.slope(), 0}};
}

// NaN at -infinity (-inf * 0); the derivative is NaN at both infinities (inf * 0).
template <class Real>
Results<Real> swish(Point<Real> p) {
  const Wide<Real> u = static_cast<Wide<Real>>(p.alpha) * static_cast<Wide<Real>>(p.a);
  return {p.a * Gate<Real>(u).value, {product_slope<Real>(u), 0}};
}

template <class Real>
Results<Real> swiglu_sigmoid(Point<Real> p) {
  const Gate<Real> a(p.a);
  const Gate<Real> b(p.b);
  return {p.a * a.value * b.value, {product_slope<Real>(p.a) * b.value, p.a * a.value * b.slope()}};
}

template <class Real>
Results<Real> swiglu_linear(Point<Real> p) {
  const Results<Real> gate = swish(p);
  return {gate.y * p.b, {gate.partials[0] * p.b, gate.y}};
}

template <class Real>
Results<Real> glu(Point<Real> p) {
  const Gate<Real> gate(p.b);
  return {p.a * gate.value, {gate.value, p.a * gate.slope()}};
}

template <class Real>
Results<Real> bilinear(Point<Real> p) {
  return {p.a * p.b, {p.b, p.a}};
}

// The derivative at a = 0 is 0; NaN stays NaN.
template <class Real>
Results<Real> reglu(Point<Real> p) {
  if (std::isnan(p.a)) return {p.a, {p.a, p.a}};
  const Real gate = p.a > 0 ? p.a : Real(0);
  return {gate * p.b, {p.a > 0 ? p.b : Real(0), gate}};
}

// NaN at -infinity; the derivative is NaN at both infinities, like that of swish.
template <class Real>
Results<Real> geglu(Point<Real> p) {
  const Wide<Real> a = p.a;
  const Split<Real> x(-a * sum<Real>(0x1.6a09e667f3bcdp-1, -0x1.bdd3413b26456p-55));
  const Split<Real> exponent(-a * a / 2);
  const Real bell = std::exp(exponent.high) * (1 + exponent.low);
  const Real phi = std::erfc(x.high) / 2 - bell * x.low / std::sqrt(pi<Real>);
  const Real density = bell / std::sqrt(2 * pi<Real>);
  return {p.a * phi * p.b, {(phi + p.a * density) * p.b, p.a * phi}};
}

// NaN at -infinity; the derivative is finite at both infinities, 1 and 0.
template <class Real>
Results<Real> geglu_tanh(Point<Real> p) {
  const Wide<Real> a = p.a;
  const Wide<Real> linear = sum<Real>(0x1.9884533d43651p+0, -0x1.cbc0d30ebfd15p-54);
  const Wide<Real> cubic = sum<Real>(0x1.2444f2a4d8b4bp-4, -0x1.6c843a29d1c70p-61);
  const Gate<Real> gate(a * (linear + cubic * a * a));
  // The gate is flat for large a: its slope is 0, and a^3 might overflow.
  const Real rise =
      std::fabs(p.a) > 100 ? Real(0) : static_cast<Real>(a * (linear + 3 * cubic * a * a));
  const Real slope = gate.value + (rise == 0 ? 0 : rise * gate.slope());
  return {p.a * gate.value * p.b, {slope * p.b, p.a * gate.value}};
}

template <class Real>
using Function = Results<Real> (*)(Point<Real>);

// Returns the function of an operator, or null for an unknown name.
template <class Real>
Function<Real> function(std::string_view name) {
  const struct {
    std::string_view name;
    Function<Real> function;
  } all[] = {{"Sinc", sinc<Real>},
             {"Sigmoid", sigmoid<Real>},
             {"Swish", swish<Real>},
             {"SwiGLUSigmoid", swiglu_sigmoid<Real>},
             {"SwiGLULinear", swiglu_linear<Real>},
             {"GLU", glu<Real>},
             {"Bilinear", bilinear<Real>},
             {"ReGLU", reglu<Real>},
             {"GeGLU", geglu<Real>},
             {"GeGLUTanh", geglu_tanh<Real>}};
  for (const auto& known : all) {
    if (known.name == name) return known.function;
  }
  return nullptr;
}

}  // namespace gatewave::reference
