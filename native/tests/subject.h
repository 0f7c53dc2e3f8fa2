// Subject of a test: one loop of one kernel, and the check of its results.
#pragma once

#include <string>
#include <vector>

#include "reference/reference.h"
#include "tests/checker.h"
#include "tests/column.h"

namespace gatewave::tests {

struct Subject {
  const char* instructions;
  const cpu::Entry* kernel;
  cpu::Graph graph;
  cpu::Type type;

  int input_count() const { return kernel->inputs + (graph == cpu::Graph::vjp ? 1 : 0); }

  int output_count() const {
    return graph == cpu::Graph::value       ? 1
           : graph == cpu::Graph::gradients ? 1 + kernel->inputs
                                            : kernel->inputs;
  }

  // Index of the partial derivative of an output; -1 for the value.
  int partial(int output) const { return graph == cpu::Graph::vjp ? output : output - 1; }

  std::string label() const {
    static constexpr const char* graphs[] = {"", "ValueAndGrad", "VJP"};
    return std::string(instructions) + " " + kernel->name + graphs[static_cast<int>(graph)] + " " +
           format(type).name;
  }

  cpu::Loop loop() const { return kernel->loops[static_cast<int>(graph)][static_cast<int>(type)]; }

  // The tensors in the order of the loop: a, then b and g if the graph has them.
  cpu::Tensors tensors(const std::vector<Column>& inputs, std::vector<Column>& outputs,
                       double alpha) const {
    cpu::Tensors all = {{}, {}, alpha};
    for (int k = 0; k < input_count(); ++k) {
      const bool is_gradient = k == kernel->inputs;
      all.inputs[k] = inputs[static_cast<std::size_t>(is_gradient ? 2 : k)].data();
    }
    for (int k = 0; k < output_count(); ++k) {
      all.outputs[k] = outputs[static_cast<std::size_t>(k)].data();
    }
    return all;
  }
};

// Calls `visit` with every subject that this processor can run.
template <class Visit>
void for_each_subject(Visit&& visit) {
  for (const cpu::Instructions& instructions : cpu::instructions()) {
    if (!instructions.is_supported) continue;
    for (const cpu::Entry& kernel : instructions.kernels) {
      for (const cpu::Graph graph : cpu::graphs) {
        for (const cpu::Type type : cpu::types) {
          visit(Subject{instructions.name, &kernel, graph, type});
        }
      }
    }
  }
}

// Comparison of a result with the exact one.
template <class Real>
struct Judged {
  bool is_right;
  Real ulps;       // the error in units in the last place
  Real near_zero;  // the error in unit roundoffs times the scale; see kernels/kernel.h
};

// Factors of an exact result: `near_zero` multiplies the partial derivative that crosses zero, and
// `gate` multiplies a gate.
template <class Real>
struct Scales {
  Real near_zero;
  Real gate;
};

// Gates below e^-174 (e^-1416) become 0, whatever their factor. If an input is infinite and the
// exact result is not finite, NaN is accepted too: infinity times a gate that is 0 in this format.
template <class Real>
Judged<Real> judged(double got, Real want, const Format& f, cpu::Bounds bounds, Scales<Real> scales,
                    bool is_infinite) {
  if (std::isnan(want)) return {std::isnan(got), 0, 0};
  if (std::isnan(got)) return {is_infinite && !std::isfinite(want), 0, 0};
  if (std::isinf(want)) return {static_cast<Real>(got) == want, 0, 0};
  // An infinite result is compared as 2^(greatest exponent + 1), the first number out of range.
  const Real end = std::ldexp(Real(1), f.greatest_exponent + 1);
  const auto held = [&](Real x) { return x > end ? end : x < -end ? -end : x; };
  const Real error = std::fabs(held(static_cast<Real>(got)) - held(want));
  if (error == 0) return {true, 0, 0};
  const Real last_place = unit(want, f);
  const Real rounding = std::ldexp(Real(1), f.digits == 53 ? -53 : -24) * scales.near_zero;
  const Real more = f.is_narrow() ? last_place / 2 : Real(0);
  const Real ulp = f.is_narrow() ? Real(1) : static_cast<Real>(bounds.ulp);
  const Real near_zero = static_cast<Real>(bounds.near_zero) * rounding;
  const Real gone = std::exp(f.digits == 53 ? Real(-1416) : Real(-174)) * scales.gate;
  if (error <= gone && error > ulp * last_place) return {true, 0, 0};
  const bool is_right = error <= ulp * last_place || (near_zero > 0 && error <= near_zero + more);
  const Real beyond = error > more ? error - more : Real(0);
  return {is_right, error / last_place,
          error > ulp * last_place && rounding > 0 ? beyond / rounding : Real(0)};
}

}  // namespace gatewave::tests
