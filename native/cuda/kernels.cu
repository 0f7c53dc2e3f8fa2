// Kernels for GPUs. A loop queues its work on the call's stream, and does not wait for it.
#include <algorithm>

#include "cuda/stride.h"
#include "kernels/entries.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {
namespace {

constexpr int threads = 256;

// Limit of the grid: enough blocks to fill any GPU dozens of times. Threads take the rest in
// strides.
constexpr std::int64_t most_blocks = 1 << 16;

template <class Kernel, Graph graph, class Stored, class Alpha>
__global__ void __launch_bounds__(threads) compute(const Call<Stored> call, Alpha alpha) {
  const std::int64_t first = std::int64_t{blockIdx.x} * threads + threadIdx.x;
  compute_stride<Kernel, graph>(call, alpha, first, std::int64_t{gridDim.x} * threads);
}

struct Launch {
  template <class Kernel, Graph graph, class Stored, class Alpha>
  static void run(const Tensors& tensors, const Call<Stored>& call, Alpha alpha) {
    if (call.count == 0) return;
    constexpr std::int64_t share = std::int64_t{threads} * Pack<Stored>::width;
    const std::int64_t blocks = std::min((call.count + share - 1) / share, most_blocks);
    const auto stream = static_cast<cudaStream_t>(tensors.stream);
    compute<Kernel, graph><<<static_cast<unsigned>(blocks), threads, 0, stream>>>(call, alpha);
  }
};

struct Loops {
  template <class Kernel, Graph graph, class T>
  static void loop(const Tensors& tensors, std::ptrdiff_t first, std::ptrdiff_t last) {
    compute_call<Launch, Kernel, graph, T>(tensors, first, last);
  }
};

}  // namespace

extern const std::array<Entry, All::size> table;
constexpr std::array<Entry, All::size> table = entries<Loops>(All{});

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
