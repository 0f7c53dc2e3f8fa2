#include "tests/accuracy.h"

#include <algorithm>
#include <vector>

#include "tests/samples.h"
#include "tests/subject.h"

namespace gatewave::tests {
namespace {

using Real = long double;
using reference::Point;
using reference::Results;

constexpr double alphas[] = {1, 1.702, -1, 0, 1e-3, 50};

// Smallest share of 16-bit results that are the nearest number; all others are at most 1 ULP off.
// The cause is double rounding: the first rounding may turn a near tie into a tie, for example in
// x/2 (1 + x/2) for small x. Products of two inputs do this more often, and a small alpha most: x/2
// is a tie for every second subnormal number.
double least_correct_share(const Subject& subject, double alpha) {
  const bool is_plain = subject.kernel->inputs == 1 && subject.graph != cpu::Graph::vjp;
  return static_cast<float>(alpha) == 1e-3F ? 0.988 : is_plain ? 0.999 : 0.996;
}

struct Largest {
  Real ulps = 0;
  Real near_zero = 0;
  double correct_share = 1;
};

// Largest errors of the value, of the partial derivative that crosses zero, and of the other one.
struct Report {
  Largest value;
  Largest partials[2];
};

// alpha, rounded to the type in which the kernels compute.
double held(double alpha, cpu::Type type) {
  return type == cpu::Type::float64 ? alpha : static_cast<double>(static_cast<float>(alpha));
}

// Doubling b is exact in binary floats, and doubles a result that is linear in b.
bool is_linear_in_b(const cpu::Entry& kernel, reference::Function<Real> function, double alpha) {
  const auto y = [&](Real b) { return function({Real(0.75), b, Real(alpha)}).y; };
  return kernel.inputs == 2 && y(Real(1)) == 2 * y(Real(0.5));
}

// Inputs and their exact results.
struct Sample {
  std::vector<Column> inputs;
  std::vector<Results<Real>> exact;
  double alpha;
  std::ptrdiff_t regular;
  bool is_linear_in_b;

  Sample(const cpu::Entry& kernel, reference::Function<Real> function, cpu::Type type,
         double alpha_, std::ptrdiff_t run)
      : inputs(samples(type, alpha_, run)),
        alpha(held(alpha_, type)),
        regular(regular_count(type, run)),
        is_linear_in_b(tests::is_linear_in_b(kernel, function, alpha)) {
    exact.reserve(static_cast<std::size_t>(count()));
    for (std::ptrdiff_t i = 0; i < count(); ++i) {
      const Real a = inputs[0][i];
      exact.push_back(function({a, kernel.inputs == 2 ? inputs[1][i] : a, alpha}));
    }
  }

  std::ptrdiff_t count() const { return inputs[0].count(); }
};

class Accuracy {
 public:
  Accuracy(Checker& checker, const Subject& subject, const Sample& sample)
      : checker_(checker), subject_(subject), sample_(sample), label_(subject.label()) {}

  void measure(Report& report) {
    std::vector<Column> outputs;
    for (int k = 0; k < subject_.output_count(); ++k) {
      outputs.emplace_back(subject_.type, sample_.count());
    }
    subject_.loop()(subject_.tensors(sample_.inputs, outputs, sample_.alpha), 0, sample_.count());
    for (int k = 0; k < subject_.output_count(); ++k) {
      const int partial = subject_.partial(k);
      measure(outputs[static_cast<std::size_t>(k)], k,
              partial < 0 ? report.value : report.partials[partial]);
    }
    checker_.count(subject_.output_count() * sample_.count());
  }

 private:
  void measure(const Column& got, int output, Largest& largest) {
    const Format& f = format(subject_.type);
    std::ptrdiff_t correct = 0;
    for (std::ptrdiff_t i = 0; i < sample_.count(); ++i) {
      const Real want = exact(i, output);
      const Judged<Real> found =
          judged(got[i], want, f, bounds(output), scales(i, output), is_infinite(i));
      if (!found.is_right) describe(i, output, got[i], want, found);
      largest.near_zero = std::max(largest.near_zero, found.near_zero);
      if (found.near_zero == 0) largest.ulps = std::max(largest.ulps, found.ulps);
      if (f.is_narrow() && i < sample_.regular) {
        const Real rounded = nearest(want, f);
        correct += static_cast<Real>(got[i]) == rounded || (got[i] != got[i] && found.is_right);
      }
    }
    if (f.is_narrow()) hold_to_share(output, correct, largest);
  }

  void hold_to_share(int output, std::ptrdiff_t correct, Largest& largest) {
    const double share = static_cast<double>(correct) / static_cast<double>(sample_.regular);
    largest.correct_share = std::min(largest.correct_share, share);
    if (share >= least_correct_share(subject_, sample_.alpha)) return;
    checker_.fail(label_, "output %d, alpha %g: only %.4f %% of all values are rounded correctly",
                  output, sample_.alpha, 100 * share);
  }

  const Results<Real>& exact(std::ptrdiff_t i) const {
    return sample_.exact[static_cast<std::size_t>(i)];
  }

  Real exact(std::ptrdiff_t i, int output) const {
    const int partial = subject_.partial(output);
    const Real found = partial < 0 ? exact(i).y : exact(i).partials[partial];
    return subject_.graph == cpu::Graph::vjp ? found * sample_.inputs[2][i] : found;
  }

  // Only the first partial derivative crosses zero at inputs that are not 0.
  cpu::Bounds bounds(int output) const {
    const int partial = subject_.partial(output);
    if (partial < 0) return subject_.kernel->value;
    return {subject_.kernel->partials.ulp, partial == 0 ? subject_.kernel->partials.near_zero : 0};
  }

  // The factor of the partial derivative that crosses zero, and the largest factor of a gate.
  Scales<Real> scales(std::ptrdiff_t i, int output) const {
    const Real b = std::fabs(static_cast<Real>(sample_.inputs[1][i]));
    const bool is_vjp = subject_.graph == cpu::Graph::vjp;
    const Real g = is_vjp ? std::fabs(static_cast<Real>(sample_.inputs[2][i])) : 1;
    const bool is_scaled_by_b = sample_.is_linear_in_b && subject_.partial(output) == 0;
    Real gate = g * std::fmax(Real(1), std::fabs(static_cast<Real>(sample_.inputs[0][i])));
    if (subject_.kernel->inputs == 2) gate *= std::fmax(Real(1), b);
    return {g * (is_scaled_by_b ? b : 1), gate};
  }

  // True if an infinite result may be NaN: infinity times a gate so small that it may become 0.
  bool is_infinite(std::ptrdiff_t i) const {
    double largest = 0;
    for (int k = 0; k < subject_.kernel->inputs; ++k) {
      const double x = std::fabs(sample_.inputs[static_cast<std::size_t>(k)][i]);
      if (!std::isinf(x)) largest = std::fmax(largest, x * std::fmax(1, std::fabs(sample_.alpha)));
    }
    constexpr double small_gate = 13;
    if (largest < small_gate) return false;
    for (int k = 0; k < subject_.input_count(); ++k) {
      const bool is_gradient = k == subject_.kernel->inputs;
      if (std::isinf(sample_.inputs[static_cast<std::size_t>(is_gradient ? 2 : k)][i])) return true;
    }
    return false;
  }

  void describe(std::ptrdiff_t i, int output, double got, Real want, const Judged<Real>& found) {
    checker_.fail(label_,
                  "output %d at a=%a, b=%a, g=%a, alpha=%g is %a (%g), not %La (%Lg): %.3Lf ULP, "
                  "%.3Lf near zero",
                  output, sample_.inputs[0][i], sample_.inputs[1][i], sample_.inputs[2][i],
                  sample_.alpha, got, got, want, want, found.ulps, found.near_zero);
  }

  Checker& checker_;
  const Subject& subject_;
  const Sample& sample_;
  std::string label_;
};

void print(const Subject& subject, const Report& report) {
  const auto cell = [&](const Largest& largest) {
    std::printf(" | %.3Lf", largest.ulps);
    if (largest.near_zero > 0) std::printf(" (%.3Lf near zero)", largest.near_zero);
    if (largest.correct_share < 1) std::printf(" %.3f %%", 100 * largest.correct_share);
  };
  std::printf("| %s", subject.label().c_str());
  if (subject.graph == cpu::Graph::vjp) {
    std::printf(" | ");
  } else {
    cell(report.value);
  }
  for (int k = 0; k < 2; ++k) {
    if (subject.graph == cpu::Graph::value || k >= subject.kernel->inputs) {
      std::printf(" | ");
    } else {
      cell(report.partials[k]);
    }
  }
  std::printf(" |\n");
}

// Exact results are slow to compute, so all instruction sets and graphs share them.
void check_kernel(Checker& checker, std::size_t index, cpu::Type type, std::ptrdiff_t run,
                  bool is_reported) {
  const cpu::Entry& kernel = cpu::instructions().front().kernels[index];
  const reference::Function<Real> function = reference::function<Real>(kernel.name);
  if (function == nullptr) return checker.fail(kernel.name, "it has no reference");
  std::vector<Report> reports(16);
  std::vector<Subject> subjects;
  for (const double alpha : alphas) {
    if (alpha != 1 && !kernel.has_alpha) continue;
    const Sample sample(kernel, function, type, alpha, run);
    subjects.clear();
    for (const cpu::Instructions& instructions : cpu::instructions()) {
      if (!instructions.is_supported) continue;
      for (const cpu::Graph graph : cpu::graphs) {
        subjects.push_back({instructions.name, &instructions.kernels[index], graph, type});
        Accuracy(checker, subjects.back(), sample).measure(reports[subjects.size() - 1]);
      }
    }
  }
  if (!is_reported) return;
  for (std::size_t k = 0; k < subjects.size(); ++k) print(subjects[k], reports[k]);
}

}  // namespace

void check_accuracy(Checker& checker, std::ptrdiff_t run, bool is_reported) {
  if (is_reported) {
    std::printf("| loop | value | first partial | second partial |\n|---|---|---|---|\n");
  }
  for (std::size_t index = 0; index < cpu::instructions().front().kernels.size(); ++index) {
    for (const cpu::Type type : cpu::types) check_kernel(checker, index, type, run, is_reported);
  }
}

}  // namespace gatewave::tests
