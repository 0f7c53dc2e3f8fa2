// Work of one GPU thread: every `stride`-th pack of a call's tensors. It also compiles for the CPU,
// where tests compare it with the CPU's loops.
#pragma once

#include "cuda/pack.h"
#include "kernels/list.h"
#include "kernels/table.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// Marks a function that is called rarely: inlined, it would occupy registers.
#ifdef __CUDACC__
#define GATEWAVE_SELDOM __host__ __device__ __noinline__
#else
#define GATEWAVE_SELDOM [[gnu::noinline]]
#endif

// Tensors of a call. An output may be an input, because a thread reads a pack before it writes it.
template <class T>
struct Call {
  const T* inputs[3];
  T* outputs[3];
  std::int64_t count;
  bool aligned;  // true if all tensors are aligned to 16 bytes
};

template <class T>
struct Results {
  T outputs[3];
};

template <class Kernel, Graph graph, Range range, class T, class Alpha>
GATEWAVE_INLINE Results<T> results(const Arguments<T, Alpha>& in, T g) {
  if constexpr (graph == Graph::value) {
    return {{Kernel::template value<range>(in), T{0}, T{0}}};
  } else if constexpr (graph == Graph::gradients) {
    const Gradients<T> found = Kernel::template gradients<range>(in, One{});
    return {{found.y, found.a, found.b}};
  } else {
    const Gradients<T> found = Kernel::template gradients<range>(in, g);
    return {{found.a, found.b, T{0}}};
  }
}

// Each element uses the formula of its own range, as in a mixed block on the CPU, so no result
// depends on its neighbours.
template <class Kernel, Graph graph, class T, class Alpha>
GATEWAVE_SELDOM Results<T> mixed_results(Arguments<T, Alpha> in, T g) {
  return Kernel::is_common(in) ? results<Kernel, graph, Range::common>(in, g)
                               : results<Kernel, graph, Range::any>(in, g);
}

template <class Kernel, Graph graph, class Stored, class Alpha>
struct Packs {
  using T = Wide<Stored>;
  static constexpr int width = Pack<Stored>::width;
  static constexpr int given = input_count(Kernel::inputs, graph);
  static constexpr int wanted = output_count(Kernel::inputs, graph);

  Pack<Stored> inputs[given];
  Pack<Stored> outputs[wanted];
  Alpha alpha;

  GATEWAVE_INLINE void compute() {
    if constexpr (Kernel::has_ranges) {
      // Nearly all packs are common. Their elements are computed without branches.
      bool all_common = true;
      GATEWAVE_UNROLL
      for (int k = 0; k < width; ++k) all_common &= Kernel::is_common(arguments(k));
      if (all_common) {
        compute_all([](const Arguments<T, Alpha>& in, T g) {
          return results<Kernel, graph, Range::common>(in, g);
        });
      } else {
        compute_all(
            [](const Arguments<T, Alpha>& in, T g) { return mixed_results<Kernel, graph>(in, g); });
      }
    } else {
      compute_all([](const Arguments<T, Alpha>& in, T g) {
        return results<Kernel, graph, Range::any>(in, g);
      });
    }
  }

 private:
  GATEWAVE_INLINE T element(int input, int k) const { return wide(inputs[input].elements[k]); }

  GATEWAVE_INLINE Arguments<T, Alpha> arguments(int k) const {
    return {element(0, k), element(Kernel::inputs - 1, k), alpha};
  }

  template <class Function>
  GATEWAVE_INLINE void compute_all(Function function) {
    GATEWAVE_UNROLL
    for (int k = 0; k < width; ++k) {
      const Results<T> found = function(arguments(k), element(given - 1, k));
      GATEWAVE_UNROLL
      for (int j = 0; j < wanted; ++j) assign(outputs[j].elements[k], found.outputs[j]);
    }
  }
};

// Computes packs `first`, `first + stride`, `first + 2 stride` and so on.
template <class Kernel, Graph graph, class Stored, class Alpha>
GATEWAVE_INLINE void compute_stride(const Call<Stored>& call, Alpha alpha, std::int64_t first,
                                    std::int64_t stride) {
  using All = Packs<Kernel, graph, Stored, Alpha>;
  for (std::int64_t begin = first * All::width; begin < call.count; begin += stride * All::width) {
    const std::int64_t count = call.count - begin;
    const bool whole = call.aligned && count >= All::width;
    All packs = {{}, {}, alpha};
    GATEWAVE_UNROLL
    for (int j = 0; j < All::given; ++j) {
      packs.inputs[j] = loaded(call.inputs[j] + begin, count, whole);
    }
    packs.compute();
    GATEWAVE_UNROLL
    for (int j = 0; j < All::wanted; ++j) {
      store(packs.outputs[j], call.outputs[j] + begin, count, whole);
    }
  }
}

// Passes elements `first` to `last` of the tensors to `Run::run<Kernel, graph>(call, alpha)`.
template <class Run, class Kernel, Graph graph, class Stored>
void compute_call(const Tensors& tensors, std::ptrdiff_t first, std::ptrdiff_t last) {
  Call<Stored> call = {{}, {}, last - first, true};
  for (int k = 0; k < input_count(Kernel::inputs, graph); ++k) {
    call.inputs[k] = static_cast<const Stored*>(tensors.inputs[k]) + first;
    call.aligned &= is_aligned(call.inputs[k]);
  }
  for (int k = 0; k < output_count(Kernel::inputs, graph); ++k) {
    call.outputs[k] = static_cast<Stored*>(tensors.outputs[k]) + first;
    call.aligned &= is_aligned(call.outputs[k]);
  }
  if constexpr (Kernel::has_alpha) {
    if (tensors.alpha != 1) {
      const auto alpha = static_cast<Wide<Stored>>(tensors.alpha);
      return Run::template run<Kernel, graph>(tensors, call, alpha);
    }
  }
  Run::template run<Kernel, graph>(tensors, call, One{});
}

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
