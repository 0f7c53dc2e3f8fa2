// Test program for the kernels on this processor.
#include <cstdlib>
#include <cstring>

#include "tests/accuracy.h"
#include "tests/conversions.h"
#include "tests/exhaustive.h"
#include "tests/regions.h"

namespace {

constexpr const char* usage =
    "kernel_tests [--report] [--run N] [--exhaustive] [--part I/N]\n"
    "  --report      print the largest errors, as a table\n"
    "  --run N       so many samples for each way of choosing inputs (2048)\n"
    "  --exhaustive  instead, all float32 values through kernels of one input and conversions\n"
    "  --part I/N    of these the Ith of N parts only, from 0\n";

struct Options {
  bool is_reported = false;
  bool is_exhaustive = false;
  long run = 2048;
  unsigned part = 0;
  unsigned parts = 1;
};

bool parse(int count, char** words, Options& options) {
  for (int k = 1; k < count; ++k) {
    const bool has_next = k + 1 < count;
    if (std::strcmp(words[k], "--report") == 0) {
      options.is_reported = true;
    } else if (std::strcmp(words[k], "--exhaustive") == 0) {
      options.is_exhaustive = true;
    } else if (std::strcmp(words[k], "--run") == 0 && has_next) {
      options.run = std::atol(words[++k]);
    } else if (std::strcmp(words[k], "--part") != 0 || !has_next ||
               std::sscanf(words[++k], "%u/%u", &options.part, &options.parts) != 2) {
      return false;
    }
  }
  return options.run > 0 && options.part < options.parts;
}

}  // namespace

int main(int count, char** words) {
  using namespace gatewave::tests;
  Options options;
  if (!parse(count, words, options)) {
    std::fputs(usage, stderr);
    return 2;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  Checker checker;
  if (options.is_exhaustive) {
    check_all_floats(checker, options.part, options.parts);
    if (options.part == 0) check_conversions(checker, 1);
  } else {
    check_accuracy(checker, options.run, options.is_reported);
    check_regions(checker);
    // A prime, so that all patterns of low bits occur.
    check_conversions(checker, 4099);
  }
  return checker.finish();
}
