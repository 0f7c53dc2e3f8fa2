// The kernels' functions, slow and obvious: as their formulas stand, in long double.
//
// On x86-64 that has 64 bits, on AArch64 113: enough to judge float64 by.
#pragma once

#include <cmath>
#include <numbers>

namespace gatewave::reference {

using Real = long double;

struct Point {
  Real a;
  Real b;
  Real alpha;
};

struct Results {
  Real y;
  Real dy_da;
  Real dy_db;
};

inline constexpr Real pi = std::numbers::pi_v<Real>;

inline Real sigmoid(Real u) { return 1 / (1 + std::exp(-u)); }

// The derivative of u s(u), where s(-u) is not 1 - s(u) rounded.
inline Real bent(Real u) { return sigmoid(u) + u * sigmoid(u) * sigmoid(-u); }

inline Results sinc(Point p) {
  const Real x = p.a;
  if (std::isinf(x)) return {0, 0, 0};
  const Real nearest = std::nearbyint(x);
  const Real odd = std::fabs(std::fmod(nearest, 2.0L));
  const Real sine = std::sin(pi * (x - nearest)) * (1 - 2 * odd);
  const Real cosine = std::cos(pi * (x - nearest)) * (1 - 2 * odd);
  if (std::fabs(x) > 0.01L) {
    const Real y = sine / (pi * x);
    return {y, (cosine - y) / x, 0};
  }
  // The series: the closed form of the derivative cancels here.
  const Real z = pi * x * pi * x;
  return {1 - z / 6 * (1 - z / 20 * (1 - z / 42 * (1 - z / 72))),
          -pi * pi * x / 3 * (1 - z / 10 * (1 - z / 28 * (1 - z / 54 * (1 - z / 88)))), 0};
}

inline Results sigmoid(Point p) { return {sigmoid(p.a), sigmoid(p.a) * sigmoid(-p.a), 0}; }

inline Results swish(Point p) {
  const Real u = p.alpha * p.a;
  return {p.a * sigmoid(u), sigmoid(u) + p.a * (sigmoid(u) * sigmoid(-u)) * p.alpha, 0};
}

inline Results swiglu_sigmoid(Point p) {
  return {p.a * sigmoid(p.a) * sigmoid(p.b), bent(p.a) * sigmoid(p.b),
          p.a * sigmoid(p.a) * (sigmoid(p.b) * sigmoid(-p.b))};
}

inline Results swiglu_linear(Point p) {
  const Results gate = swish(p);
  return {gate.y * p.b, gate.dy_da * p.b, gate.y};
}

inline Results glu(Point p) {
  return {p.a * sigmoid(p.b), sigmoid(p.b), p.a * (sigmoid(p.b) * sigmoid(-p.b))};
}

inline Results bilinear(Point p) { return {p.a * p.b, p.b, p.a}; }

inline Results reglu(Point p) {
  if (std::isnan(p.a)) return {p.a, p.a, p.a};
  const Real gate = p.a > 0 ? p.a : 0;
  return {gate * p.b, p.a > 0 ? p.b : 0, gate};
}

inline Results geglu(Point p) {
  const Real phi = std::erfc(-p.a / std::numbers::sqrt2_v<Real>) / 2;
  const Real density = std::exp(-p.a * p.a / 2) / std::sqrt(2 * pi);
  return {p.a * phi * p.b, (phi + p.a * density) * p.b, p.a * phi};
}

inline Results geglu_tanh(Point p) {
  const Real slope = 2 * std::sqrt(2 / pi);
  const Real cubic = 0.044715L * slope;
  const Real v = p.a * (slope + cubic * p.a * p.a);
  // Where the gate is flat its slope is 0, and a^3 may overflow.
  const Real rise = std::fabs(p.a) > 100 ? 0 : p.a * (slope + 3 * cubic * p.a * p.a);
  const Real gate = sigmoid(v);
  return {p.a * gate * p.b, (gate + rise * (gate * sigmoid(-v))) * p.b, p.a * gate};
}

}  // namespace gatewave::reference
