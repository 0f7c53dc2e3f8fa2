#include "tests/samples.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace gatewave::tests {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

enum class Way { normal, common, tails, spread, landmarks, grid, patterns };
constexpr Way ways[] = {Way::normal,    Way::common, Way::tails,   Way::spread,
                        Way::landmarks, Way::grid,   Way::patterns};
constexpr std::ptrdiff_t way_count = std::ssize(ways);

// Numbers at which formulas change or cross zero: limits of ranges, arguments at which exponentials
// underflow, zeros of derivatives, and the first magnitudes without fractions.
constexpr double landmarks[] = {0.5,
                                1,
                                1.2784645427610738,
                                0.7517915241783243,
                                0.7524614220710162,
                                1.4302966531242027,
                                2.4590240327217906,
                                3.4708897123283905,
                                4,
                                8,
                                13.1,
                                14.2,
                                16.6355323,
                                17.33,
                                24,
                                30,
                                36.7,
                                37.5,
                                38.5,
                                60,
                                87.33654,
                                88.722839,
                                103.9721,
                                174,
                                174.673,
                                200,
                                708.3964,
                                709.7827,
                                745.1332,
                                1416,
                                1416.79,
                                65536,
                                0x1p22,
                                0x1p23,
                                0x1p24,
                                0x1p51,
                                0x1p52,
                                0x1p53,
                                0x1p60};

class Source {
 public:
  Source(cpu::Type type, double alpha)
      : format_(format(type)), scale_(alpha == 0 ? 1 : std::fabs(alpha)) {}

  double number(Way way) {
    const bool is_double = format_.digits == 53;
    switch (way) {
      case Way::normal:
        return 3 * normal_(random_);
      case Way::common:
        return symmetric() * (is_double ? 200 : 24) / scale_;
      case Way::tails:
        return symmetric() * (is_double ? 760 : 130) / scale_;
      case Way::spread:
        return with_sign(std::exp2(
            between(format_.least_exponent - format_.digits, format_.greatest_exponent + 1)));
      case Way::landmarks:
        return landmark();
      case Way::grid:
        return std::round(40 * normal_(random_)) / 2 * (1 + wobble());
      case Way::patterns:
        return pattern();
    }
    return 0;
  }

  std::mt19937_64& random() { return random_; }

 private:
  double symmetric() { return between(-1, 1); }
  double between(double low, double high) { return low + (high - low) * uniform_(random_); }
  double with_sign(double x) { return (random_() & 1) != 0 ? x : -x; }

  // A relative change of up to 3 * 2^-digits; 0 in more than half of the calls.
  double wobble() {
    return static_cast<double>(static_cast<int>(random_() % 7) - 3) *
           std::ldexp(1.0, -format_.digits) * static_cast<double>(random_() % 2);
  }

  double landmark() {
    const double mark = landmarks[random_() % std::size(landmarks)];
    const double scaled = (random_() & 1) != 0 ? mark : mark / scale_;
    const double away = symmetric() * std::exp2(-between(1, format_.digits + 2));
    return with_sign(scaled * ((random_() & 3) != 0 ? 1 + away : 1 + wobble()));
  }

  double pattern() {
    const std::uint64_t bits = random_();
    return format_.digits == 53 ? std::bit_cast<double>(bits)
                                : std::bit_cast<float>(static_cast<std::uint32_t>(bits));
  }

  const Format& format_;
  double scale_;
  std::mt19937_64 random_{7};
  std::normal_distribution<double> normal_;
  std::uniform_real_distribution<double> uniform_{0, 1};
};

std::vector<double> special(cpu::Type type) {
  const Format& f = format(type);
  const double least = std::ldexp(1.0, f.least_exponent - f.digits + 1);
  const double normal = std::ldexp(1.0, f.least_exponent);
  const double greatest = std::ldexp(2 - std::ldexp(1.0, 1 - f.digits), f.greatest_exponent);
  std::vector<double> found = {0, least, normal, 0.5, 1, 2.5, 24, 100, 1e4, greatest, infinity};
  for (std::size_t k = found.size(); k-- > 0;) found.push_back(-found[k]);
  found.push_back(std::numeric_limits<double>::quiet_NaN());
  return found;
}

void fill_specials(std::vector<Column>& columns, std::ptrdiff_t first, cpu::Type type) {
  const std::vector<double> values = special(type);
  std::ptrdiff_t i = first;
  for (const double a : values) {
    for (const double b : values) {
      for (const double g : values) {
        columns[0].set(i, a);
        columns[1].set(i, b);
        columns[2].set(i, g);
        ++i;
      }
    }
  }
}

void fill_all_patterns(std::vector<Column>& columns, Source& source) {
  std::vector<std::uint16_t> patterns(1 << 16);
  std::iota(patterns.begin(), patterns.end(), std::uint16_t{0});
  for (std::size_t k = 0; k < 2; ++k) {
    for (std::size_t i = 0; i < patterns.size(); ++i) {
      columns[k].put(static_cast<std::ptrdiff_t>(i), patterns[i]);
    }
    std::shuffle(patterns.begin(), patterns.end(), source.random());
  }
}

void fill_runs(std::vector<Column>& columns, std::ptrdiff_t run, Source& source) {
  for (std::ptrdiff_t i = 0; i < way_count * way_count * run; ++i) {
    columns[0].set(i, source.number(ways[i / run % way_count]));
    columns[1].set(i, source.number(ways[i / run / way_count]));
  }
}

}  // namespace

std::ptrdiff_t regular_count(cpu::Type type, std::ptrdiff_t run) {
  return format(type).is_narrow() ? 1 << 16 : way_count * way_count * run;
}

std::vector<Column> samples(cpu::Type type, double alpha, std::ptrdiff_t run) {
  const std::ptrdiff_t regular = regular_count(type, run);
  const auto specials = static_cast<std::ptrdiff_t>(special(type).size());
  std::vector<Column> columns;
  for (int k = 0; k < 3; ++k) {
    columns.emplace_back(type, regular + specials * specials * specials);
  }
  Source source(type, alpha);
  if (format(type).is_narrow()) {
    fill_all_patterns(columns, source);
  } else {
    fill_runs(columns, run, source);
  }
  for (std::ptrdiff_t i = 0; i < regular; ++i) {
    columns[2].set(i, source.number(i % 4 == 3 ? Way::spread : Way::normal));
  }
  fill_specials(columns, regular, type);
  return columns;
}

}  // namespace gatewave::tests
