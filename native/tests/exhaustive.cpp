#include "tests/exhaustive.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "tests/subject.h"

namespace gatewave::tests {
namespace {

constexpr std::size_t stretch = 1 << 16;

// Compares one kernel, with every instruction set, with a float64 reference; float64 has enough
// digits to check float32.
class AllFloats {
 public:
  AllFloats(Checker& checker, std::size_t kernel)
      : checker_(checker), function_(reference::function<double>(entry(0, kernel).name)) {
    for (std::size_t k = 0; k < cpu::instructions().size(); ++k) {
      if (!cpu::instructions()[k].is_supported) continue;
      subjects_.push_back({cpu::instructions()[k].name, &entry(k, kernel), cpu::Graph::gradients,
                           cpu::Type::float32});
    }
    largest_.resize(2 * subjects_.size());
  }

  void check(std::uint32_t first) {
    for (std::size_t i = 0; i < stretch; ++i) {
      given_[i] = std::bit_cast<float>(first + static_cast<std::uint32_t>(i));
      exact_[i] = function_({given_[i], given_[i], 1});
    }
    for (std::size_t k = 0; k < subjects_.size(); ++k) {
      const Subject& subject = subjects_[k];
      subject.loop()({{given_.data(), nullptr, nullptr}, {y_.data(), slope_.data(), nullptr}, 1}, 0,
                     std::ssize(given_));
      for (std::size_t i = 0; i < stretch; ++i) {
        judge(2 * k, i, y_[i], exact_[i].y, subject.kernel->value);
        judge(2 * k + 1, i, slope_[i], exact_[i].partials[0], subject.kernel->partials);
      }
    }
    checker_.count(static_cast<long long>(2 * stretch * subjects_.size()));
  }

  void print() const {
    for (std::size_t k = 0; k < subjects_.size(); ++k) {
      std::printf("| %s | %.3f | %.3f (%.3f near zero) |\n", subjects_[k].label().c_str(),
                  largest_[2 * k].ulps, largest_[2 * k + 1].ulps, largest_[2 * k + 1].near_zero);
    }
  }

 private:
  static const cpu::Entry& entry(std::size_t instructions, std::size_t kernel) {
    return cpu::instructions()[instructions].kernels[kernel];
  }

  void judge(std::size_t which, std::size_t i, double got, double want, cpu::Bounds bounds) {
    if (got == want) return;
    const auto found =
        judged(got, want, format(cpu::Type::float32), bounds, {1.0, 1.0}, std::isinf(given_[i]));
    Judged<double>& largest = largest_[which];
    largest.near_zero = std::max(largest.near_zero, found.near_zero);
    if (found.near_zero == 0) largest.ulps = std::max(largest.ulps, found.ulps);
    if (found.is_right) return;
    checker_.fail(subjects_[which / 2].label(), "output %zu at %a is %a, not %a: %.3f ULP",
                  which % 2, static_cast<double>(given_[i]), got, want, found.ulps);
  }

  Checker& checker_;
  reference::Function<double> function_;
  std::vector<Subject> subjects_;
  std::vector<Judged<double>> largest_;
  std::vector<float> given_ = std::vector<float>(stretch);
  std::vector<float> y_ = std::vector<float>(stretch);
  std::vector<float> slope_ = std::vector<float>(stretch);
  std::vector<reference::Results<double>> exact_ = std::vector<reference::Results<double>>(stretch);
};

}  // namespace

void check_all_floats(Checker& checker, unsigned part, unsigned parts) {
  const auto kernels = cpu::instructions().front().kernels;
  for (std::size_t index = 0; index < kernels.size(); ++index) {
    if (kernels[index].inputs != 1) continue;
    AllFloats all(checker, index);
    // Stretches are assigned to parts in turn, so each part has numbers of all magnitudes.
    for (std::uint64_t piece = part; piece < (1ULL << 32) / stretch; piece += parts) {
      all.check(static_cast<std::uint32_t>(piece * stretch));
    }
    all.print();
  }
}

}  // namespace gatewave::tests
