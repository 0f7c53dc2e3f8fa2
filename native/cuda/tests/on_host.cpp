// Compares the work of GPU threads, run on the host, with the CPU kernels, bit by bit.
#include <array>
#include <bit>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "cpu/table.h"
#include "kernels/list.h"

namespace gatewave {

namespace strides {
extern const std::array<Entry, All::size> table;
}

namespace {

constexpr double alphas[] = {1, 1.702, -1, 0, 50};
// All 16-bit patterns, and a rest smaller than a pack.
constexpr std::ptrdiff_t many = (1 << 16) + 3;
constexpr std::ptrdiff_t most_few = 40;
constexpr unsigned char untouched = 0xa5;

constexpr std::size_t size_of(Type type) {
  return type == Type::float64 ? 8 : type == Type::float32 ? 4 : 2;
}

using Bytes = std::vector<unsigned char>;

// `count` elements, `shift` elements after a multiple of 16 bytes, and a margin that must not be
// written.
class Column {
 public:
  Column(Type type, std::ptrdiff_t count, std::size_t shift)
      : offset_(shift * size_of(type)),
        bytes_(offset_ + (static_cast<std::size_t>(count) + margin) * size_of(type), untouched) {}

  unsigned char* data() { return bytes_.data() + offset_; }
  Bytes& bytes() { return bytes_; }

 private:
  static constexpr std::size_t margin = 8;
  std::size_t offset_;
  Bytes bytes_;
};

std::uint64_t pattern(Type type, double x) {
  if (type == Type::float64) return std::bit_cast<std::uint64_t>(x);
  const auto wide = std::bit_cast<std::uint32_t>(static_cast<float>(x));
  if (type == Type::float32) return wide;
  if (type == Type::bfloat16) return wide >> 16;
  // Subnormal numbers become 0 here; the test of all patterns contains them.
  const std::uint32_t size = wide & 0x7fffffffU;
  const std::uint32_t half = size < 0x38800000U ? 0 : (size - 0x38000000U) >> 13;
  return (wide >> 16 & 0x8000U) | (half > 0x7c00U ? 0x7c00U : half);
}

bool is_nan(Type type, std::uint64_t bits) {
  switch (type) {
    case Type::float64:
      return (bits & ~(std::uint64_t{1} << 63)) > 0x7ff0000000000000U;
    case Type::float32:
      return (bits & 0x7fffffffU) > 0x7f800000U;
    case Type::float16:
      return (bits & 0x7fffU) > 0x7c00U;
    case Type::bfloat16:
      return (bits & 0x7fffU) > 0x7f80U;
  }
  return false;
}

// Fills half of the elements with numbers near zero, in stretches of the common range, and the rest
// with random bit patterns. In 16 bits, the first input has all patterns instead.
void fill(unsigned char* data, Type type, std::ptrdiff_t count, int input,
          std::mt19937_64& random) {
  std::normal_distribution<double> near(0, input == 0 ? 8 : 3);
  const std::size_t size = size_of(type);
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    std::uint64_t bits = random();
    if (size == 2 && count == many && input == 0) {
      bits = static_cast<std::uint64_t>(i);
    } else if (i % 4096 < 2048) {
      bits = pattern(type, near(random));
    }
    std::memcpy(data + static_cast<std::size_t>(i) * size, &bits, size);
  }
}

struct Case {
  const Entry* ours;
  const Entry* theirs;
  Graph graph;
  Type type;
  double alpha;
  std::ptrdiff_t count;
  std::size_t shift;
  bool in_place;
};

// Returns true if both give the same bytes, and write only their outputs. Prints the difference.
bool agrees(const Case& c, std::mt19937_64& random) {
  const int given = input_count(c.ours->inputs, c.graph);
  const int wanted = output_count(c.ours->inputs, c.graph);
  std::vector<Column> inputs[2];
  for (int k = 0; k < given; ++k) {
    // The inputs have different alignments if `shift` is not 0.
    Column column(c.type, c.count, c.shift * static_cast<std::size_t>(k + 1));
    fill(column.data(), c.type, c.count, k, random);
    inputs[0].push_back(column);
    inputs[1].push_back(column);
  }
  std::vector<Column> outputs[2];
  for (auto& made : outputs) made.assign(3, Column(c.type, c.count, c.shift));
  for (const int who : {0, 1}) {
    Tensors tensors = {{}, {}, c.alpha};
    for (int k = 0; k < given; ++k)
      tensors.inputs[k] = inputs[who][static_cast<std::size_t>(k)].data();
    for (int k = 0; k < wanted; ++k) {
      const auto index = static_cast<std::size_t>(k);
      auto& column = c.in_place && k < given ? inputs[who][index] : outputs[who][index];
      tensors.outputs[k] = column.data();
    }
    const Entry* entry = who == 0 ? c.ours : c.theirs;
    entry->loops[static_cast<int>(c.graph)][static_cast<int>(c.type)](tensors, 0, c.count);
  }
  const std::size_t size = size_of(c.type);
  for (std::size_t k = 0; k < static_cast<std::size_t>(wanted); ++k) {
    const bool placed = c.in_place && k < static_cast<std::size_t>(given);
    Column& found = placed ? inputs[0][k] : outputs[0][k];
    Column& right = placed ? inputs[1][k] : outputs[1][k];
    if (found.bytes() == right.bytes()) continue;
    const auto begin = static_cast<std::size_t>(found.data() - found.bytes().data());
    for (std::size_t at = begin; at + size <= found.bytes().size(); at += size) {
      std::uint64_t one = 0;
      std::uint64_t other = 0;
      std::memcpy(&one, found.bytes().data() + at, size);
      std::memcpy(&other, right.bytes().data() + at, size);
      if (one == other || (is_nan(c.type, one) && is_nan(c.type, other))) continue;
      std::printf(
          "%s, graph %d, type %d, alpha %g, %td elements, shift %zu%s: output %zu at %zu is %llx, "
          "not %llx\n",
          c.ours->name, static_cast<int>(c.graph), static_cast<int>(c.type), c.alpha, c.count,
          c.shift, c.in_place ? ", in place" : "", k, (at - begin) / size,
          static_cast<unsigned long long>(one), static_cast<unsigned long long>(other));
      return false;
    }
  }
  return true;
}

const Instructions* like() {
  for (const Instructions& known : cpu::instructions()) {
    if (std::string(known.name) == GATEWAVE_LIKE && known.is_supported) return &known;
  }
  return nullptr;
}

int compared() {
  const Instructions* cpu = like();
  if (cpu == nullptr) {
    std::printf("skipped: this processor has no %s\n", GATEWAVE_LIKE);
    return 77;
  }
  std::mt19937_64 random(1);
  long cases = 0;
  long wrong = 0;
  const auto check = [&](const Case& c) {
    ++cases;
    wrong += agrees(c, random) ? 0 : 1;
  };
  for (std::size_t k = 0; k < strides::table.size(); ++k) {
    const Entry* ours = &strides::table[k];
    const Entry* theirs = &cpu->kernels[k];
    for (const Graph graph : graphs) {
      for (const Type type : types) {
        for (const double alpha : alphas) {
          if (alpha != 1 && !ours->has_alpha) continue;
          for (const std::size_t shift : {0U, 1U}) {
            check({ours, theirs, graph, type, alpha, many, shift, false});
            for (std::ptrdiff_t count = 0; count <= most_few; ++count) {
              check({ours, theirs, graph, type, alpha, count, shift, count % 2 == 1});
            }
          }
        }
      }
    }
  }
  std::printf("%ld of %ld cases differ\n", wrong, cases);
  return wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace gatewave

int main() { return gatewave::compared(); }
