#include "tests/conversions.h"

#include <bit>
#include <vector>

#include "tests/format.h"

namespace gatewave {

#if defined(__x86_64__)
namespace avx512 {
extern const tests::Conversions conversions;
}
namespace avx2 {
extern const tests::Conversions conversions;
}
namespace x86_64 {
extern const tests::Conversions conversions;
}
#elif defined(__aarch64__)
namespace neon {
extern const tests::Conversions conversions;
}
#else
namespace portable {
extern const tests::Conversions conversions;
}
#endif

namespace tests {
namespace {

// Conversions in the order of cpu::instructions.
const Conversions* const all[] = {
#if defined(__x86_64__)
    &avx512::conversions, &avx2::conversions, &x86_64::conversions
#elif defined(__aarch64__)
    &neon::conversions
#else
    &portable::conversions
#endif
};

constexpr cpu::Type narrow_types[] = {cpu::Type::float16, cpu::Type::bfloat16};

// An odd number, because the last elements use other code than whole vectors.
constexpr std::size_t stretch = 4099;

class Downward {
 public:
  Downward(Checker& checker, const char* instructions, const Conversions& conversions, int kind)
      : checker_(checker),
        format_(format(narrow_types[kind])),
        label_(std::string(instructions) + " to " + format_.name),
        narrow_(conversions.narrow[kind]) {}

  void add(float x) {
    given_.push_back(x);
    if (given_.size() == stretch) flush();
  }

  void flush() {
    std::vector<std::uint16_t> got(given_.size());
    narrow_(given_.data(), got.data(), std::ssize(given_));
    for (std::size_t i = 0; i < got.size(); ++i) {
      const std::uint16_t want = encoded(given_[i], format_);
      const bool is_nan = std::isnan(given_[i]) && std::isnan(decoded(got[i], format_)) &&
                          ((got[i] ^ want) & 0x8000) == 0;
      if (got[i] == want || is_nan) continue;
      checker_.fail(label_, "%a is %#06x, not %#06x", static_cast<double>(given_[i]), got[i], want);
    }
    checker_.count(std::ssize(got));
    given_.clear();
  }

  // The midpoint between each number and the next one, and its neighbours.
  void add_ties() {
    for (std::uint32_t pattern = 0; pattern < 0x8000; ++pattern) {
      const double low = decoded(static_cast<std::uint16_t>(pattern), format_);
      double high = decoded(static_cast<std::uint16_t>(pattern + 1), format_);
      if (!std::isfinite(low)) continue;
      if (std::isinf(high)) high = std::ldexp(1.0, format_.greatest_exponent + 1);
      add_around(static_cast<float>(low / 2 + high / 2));
      add_around(static_cast<float>(low));
    }
  }

 private:
  void add_around(float x) {
    for (const int away : {-1, 0, 1}) {
      const auto pattern = std::bit_cast<std::uint32_t>(x) + static_cast<std::uint32_t>(away);
      add(std::bit_cast<float>(pattern));
      add(-std::bit_cast<float>(pattern));
    }
  }

  Checker& checker_;
  const Format& format_;
  std::string label_;
  void (*narrow_)(const float*, std::uint16_t*, std::ptrdiff_t);
  std::vector<float> given_;
};

void check_upward(Checker& checker, const char* instructions, const Conversions& conversions,
                  int kind, std::ptrdiff_t offset) {
  const Format& f = format(narrow_types[kind]);
  std::vector<std::uint16_t> given;
  for (std::uint32_t pattern = 0; pattern < 0x10000; ++pattern) {
    given.push_back(static_cast<std::uint16_t>(pattern));
  }
  std::vector<float> got(given.size());
  conversions.widen[kind](given.data() + offset, got.data() + offset, std::ssize(given) - offset);
  for (std::size_t i = static_cast<std::size_t>(offset); i < given.size(); ++i) {
    const double want = decoded(given[i], f);
    const double found = got[i];
    const bool is_same = std::isnan(want) ? std::isnan(found) : found == want;
    if (is_same && std::signbit(want) == std::signbit(found)) continue;
    checker.fail(std::string(instructions) + " from " + f.name, "%#06x is %a, not %a", given[i],
                 found, want);
  }
  checker.count(std::ssize(given));
}

}  // namespace

void check_conversions(Checker& checker, std::uint32_t step) {
  const auto instructions = cpu::instructions();
  for (std::size_t k = 0; k < instructions.size(); ++k) {
    if (!instructions[k].is_supported) continue;
    for (int kind = 0; kind < 2; ++kind) {
      for (const std::ptrdiff_t offset : {0, 5, 0xfffd}) {
        check_upward(checker, instructions[k].name, *all[k], kind, offset);
      }
      Downward downward(checker, instructions[k].name, *all[k], kind);
      downward.add_ties();
      for (std::uint64_t pattern = 0; pattern < 1ULL << 32; pattern += step) {
        downward.add(std::bit_cast<float>(static_cast<std::uint32_t>(pattern)));
      }
      downward.flush();
    }
  }
}

}  // namespace tests
}  // namespace gatewave
