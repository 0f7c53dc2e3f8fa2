// GPU kernels on the host: their threads run one after the other.
#include "cuda/stride.h"
#include "kernels/entries.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {
namespace {

// So few that each thread has several packs.
constexpr std::int64_t threads = 7;

struct Threads {
  template <class Kernel, Graph graph, class Stored, class Alpha>
  static void run(const Tensors&, const Call<Stored>& call, Alpha alpha) {
    for (std::int64_t thread = 0; thread < threads; ++thread) {
      compute_stride<Kernel, graph>(call, alpha, thread, threads);
    }
  }
};

struct Loops {
  template <class Kernel, Graph graph, class T>
  static void loop(const Tensors& tensors, std::ptrdiff_t first, std::ptrdiff_t last) {
    compute_call<Threads, Kernel, graph, T>(tensors, first, last);
  }
};

}  // namespace

extern const std::array<Entry, All::size> table;
constexpr std::array<Entry, All::size> table = entries<Loops>(All{});

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
