#include "tests/regions.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "tests/samples.h"
#include "tests/subject.h"

namespace gatewave::tests {
namespace {

constexpr std::ptrdiff_t block = 1024;
constexpr auto canary = std::byte{0x5a};
constexpr double alphas[] = {1, 1.702};

// Longer than any tested stretch, with common, uncommon and mixed blocks.
constexpr std::ptrdiff_t total = 6 * block;

std::vector<Column> columns(int count, cpu::Type type, std::ptrdiff_t length,
                            std::ptrdiff_t offset = 0) {
  std::vector<Column> made;
  for (int k = 0; k < count; ++k) {
    made.emplace_back(type, length, offset);
    made.back().fill(canary);
  }
  return made;
}

// Blocks 0, 1 and most of block 3 have numbers within ±20; other elements are random samples.
std::vector<Column> inputs(cpu::Type type) {
  std::vector<Column> all = samples(type, 1, 256);
  std::vector<Column> chosen = columns(3, type, total);
  std::mt19937_64 random(11);
  for (std::ptrdiff_t i = 0; i < total; ++i) {
    const auto any =
        static_cast<std::ptrdiff_t>(random() % static_cast<std::uint64_t>(all[0].count()));
    for (std::size_t k = 0; k < 3; ++k) {
      if (i < 2 * block || (i >= 3 * block && i < 4 * block && i % 64 != 5)) {
        chosen[k].set(i, static_cast<double>(static_cast<int>(random() % 4001) - 2000) / 100);
      } else {
        chosen[k].copy(all[k], any, i, 1);
      }
    }
  }
  return chosen;
}

class Regions {
 public:
  Regions(Checker& checker, const Subject& subject, const std::vector<Column>& inputs, double alpha)
      : checker_(checker),
        subject_(subject),
        inputs_(inputs),
        alpha_(alpha),
        alone_(columns(subject.output_count(), subject.type, total)) {
    // Expected results: each element computed alone.
    const cpu::Tensors tensors = subject.tensors(inputs, alone_, alpha);
    for (std::ptrdiff_t i = 0; i < total; ++i) subject.loop()(tensors, i, i + 1);
  }

  void check() {
    check_whole();
    for (std::ptrdiff_t length = 0; length <= 67; ++length) check_stretch(3 * block - 30, length);
    for (const std::ptrdiff_t length : {block - 1, block, block + 1, 2 * block, 2 * block + 1}) {
      check_stretch(0, length);
      check_stretch(block + 7, length);
    }
    for (std::ptrdiff_t offset = 1; offset <= 17; ++offset) check_offset(offset, 2 * block + 9);
    check_in_place();
  }

 private:
  void check_whole() {
    std::vector<Column> outputs = columns(subject_.output_count(), subject_.type, total);
    subject_.loop()(subject_.tensors(inputs_, outputs, alpha_), 0, total);
    compare(outputs, 0, 0, total, "the whole");
  }

  // A part of longer tensors; other elements must not change.
  void check_stretch(std::ptrdiff_t first, std::ptrdiff_t length) {
    std::vector<Column> outputs = columns(subject_.output_count(), subject_.type, total);
    subject_.loop()(subject_.tensors(inputs_, outputs, alpha_), first, first + length);
    compare(outputs, first, first, length, "a stretch");
    for (const Column& output : outputs) {
      if (output.holds_only(canary, 0, first) && output.holds_only(canary, first + length, total)) {
        continue;
      }
      checker_.fail(subject_.label(), "elements %td to %td: others were written, too", first,
                    first + length);
    }
    check_exact_size(first, length);
  }

  // Memory that ends with the elements.
  void check_exact_size(std::ptrdiff_t first, std::ptrdiff_t length) {
    std::vector<Column> outputs = columns(subject_.output_count(), subject_.type, length);
    subject_.loop()(subject_.tensors(part(first, length, 0), outputs, alpha_), 0, length);
    compare(outputs, 0, first, length, "separate memory");
  }

  void check_offset(std::ptrdiff_t offset, std::ptrdiff_t length) {
    std::vector<Column> outputs =
        columns(subject_.output_count(), subject_.type, length, offset / 2);
    subject_.loop()(subject_.tensors(part(100, length, offset), outputs, alpha_), 0, length);
    compare(outputs, 0, 100, length, "other alignments");
  }

  std::vector<Column> part(std::ptrdiff_t first, std::ptrdiff_t length, std::ptrdiff_t offset) {
    std::vector<Column> made;
    for (std::ptrdiff_t k = 0; k < 3; ++k) {
      made.emplace_back(subject_.type, length, offset == 0 ? 0 : offset + k);
      made.back().copy(inputs_[static_cast<std::size_t>(k)], first, 0, length);
    }
    return made;
  }

  // Every assignment of outputs to the memory of inputs, with at most one output for an input.
  void check_in_place() {
    std::vector<int> over(static_cast<std::size_t>(subject_.output_count()), -1);
    place(over, 0);
  }

  void place(std::vector<int>& over, std::size_t output) {
    if (output == over.size()) return run_in_place(over);
    for (int input = -1; input < subject_.input_count(); ++input) {
      const auto chosen = over.begin() + static_cast<std::ptrdiff_t>(output);
      if (input >= 0 && std::find(over.begin(), chosen, input) != chosen) continue;
      *chosen = input;
      place(over, output + 1);
    }
  }

  void run_in_place(const std::vector<int>& over) {
    std::vector<Column> given = part(0, total, 0);
    std::vector<Column> apart = columns(subject_.output_count(), subject_.type, total);
    cpu::Tensors tensors = subject_.tensors(given, apart, alpha_);
    std::vector<Column*> outputs;
    for (std::size_t k = 0; k < over.size(); ++k) {
      const bool is_gradient = over[k] == subject_.kernel->inputs;
      Column& output =
          over[k] < 0 ? apart[k] : given[static_cast<std::size_t>(is_gradient ? 2 : over[k])];
      tensors.outputs[k] = output.data();
      outputs.push_back(&output);
    }
    subject_.loop()(tensors, 0, total);
    for (std::size_t k = 0; k < over.size(); ++k) {
      compare(*outputs[k], k, 0, 0, total, "an output over an input");
    }
  }

  void compare(const std::vector<Column>& outputs, std::ptrdiff_t at, std::ptrdiff_t first,
               std::ptrdiff_t length, const char* what) {
    for (std::size_t k = 0; k < outputs.size(); ++k)
      compare(outputs[k], k, at, first, length, what);
  }

  void compare(const Column& output, std::size_t k, std::ptrdiff_t at, std::ptrdiff_t first,
               std::ptrdiff_t length, const char* what) {
    for (std::ptrdiff_t i = 0; i < length; ++i) {
      if (output.is_same(at + i, alone_[k], first + i)) continue;
      checker_.fail(subject_.label(),
                    "%s: output %zu, element %td of %td, at a=%a, b=%a, g=%a: %a, alone %a", what,
                    k, i, length, inputs_[0][first + i], inputs_[1][first + i],
                    inputs_[2][first + i], output[at + i], alone_[k][first + i]);
    }
    checker_.count(length);
  }

  Checker& checker_;
  const Subject& subject_;
  const std::vector<Column>& inputs_;
  double alpha_;
  std::vector<Column> alone_;
};

}  // namespace

void check_regions(Checker& checker) {
  std::vector<std::vector<Column>> all;
  for (const cpu::Type type : cpu::types) all.push_back(inputs(type));
  for_each_subject([&](const Subject& subject) {
    for (const double alpha : alphas) {
      if (alpha != 1 && !subject.kernel->has_alpha) continue;
      Regions(checker, subject, all[static_cast<std::size_t>(subject.type)], alpha).check();
    }
  });
}

}  // namespace gatewave::tests
