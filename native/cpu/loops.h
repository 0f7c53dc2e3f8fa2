// Loops over tensors, written so that the compiler vectorises them, in the target's namespace.
#pragma once

#include <algorithm>
#include <cstddef>

#include "cpu/narrow.h"
#include "cpu/table.h"
#include "kernels/entries.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// Elements of one block. A block stays in the L1 cache, and an input outside the common range slows
// down only its block.
inline constexpr std::ptrdiff_t block = 1024;

template <class T, class Alpha>
struct Columns {
  const T* inputs[3];
  T* outputs[3];
  Alpha alpha;
};

template <class Kernel, class T, class Alpha>
GATEWAVE_INLINE Arguments<T, Alpha> arguments(const T* a, const T* b, Alpha alpha,
                                              std::ptrdiff_t i) {
  return {a[i], Kernel::inputs == 2 ? b[i] : a[i], alpha};
}

// Without FMA, the formulas of the common range are not faster, and less accurate.
template <class Kernel>
inline constexpr bool has_ranges = Kernel::has_ranges && has_fma;

// A kernel for one block. With `is_mixed`, each element uses the formula of its own range, so no
// result depends on its neighbours. Otherwise all elements use the formula of the common range.
template <class Kernel, bool is_mixed>
struct Ranged {
  static constexpr Range range = has_ranges<Kernel> ? Range::common : Range::any;

  template <class T, class Alpha>
  GATEWAVE_INLINE static T value(const Arguments<T, Alpha>& in) {
    const T common = Kernel::template value<range>(in);
    if constexpr (!is_mixed) {
      return common;
    } else {
      const T other = Kernel::template value<Range::any>(in);
      return Kernel::is_common(in) ? common : other;
    }
  }

  template <class T, class Alpha, class G>
  GATEWAVE_INLINE static Gradients<T> gradients(const Arguments<T, Alpha>& in, G g) {
    const Gradients<T> common = Kernel::template gradients<range>(in, g);
    if constexpr (!is_mixed) {
      return common;
    } else {
      const Gradients<T> other = Kernel::template gradients<Range::any>(in, g);
      const bool easy = Kernel::is_common(in);
      return {easy ? common.y : other.y, easy ? common.a : other.a, easy ? common.b : other.b};
    }
  }
};

// Computes elements first to last. Returns true if all of them are in the common range.
template <class Kernel, cpu::Graph graph, bool is_mixed, class T, class Alpha>
bool compute(const Columns<T, Alpha>& columns, std::ptrdiff_t first, std::ptrdiff_t last) {
  using Functions = Ranged<Kernel, is_mixed>;
  const T* a = columns.inputs[0];
  const T* b = columns.inputs[1];
  const T* g = columns.inputs[Kernel::inputs];
  T* y0 = columns.outputs[0];
  T* y1 = columns.outputs[1];
  T* y2 = columns.outputs[2];
  const Alpha alpha = columns.alpha;
  Bits<T> common = 1;
  // An output may be an input, because each element is read before it is written.
#ifdef __clang__
#pragma clang loop vectorize(assume_safety)
#else
#pragma GCC ivdep
#endif
  for (std::ptrdiff_t i = first; i < last; ++i) {
    const Arguments<T, Alpha> in = arguments<Kernel>(a, b, alpha, i);
    if constexpr (has_ranges<Kernel> && !is_mixed) common &= Kernel::is_common(in) ? 1 : 0;
    if constexpr (graph == cpu::Graph::value) {
      y0[i] = Functions::value(in);
    } else if constexpr (graph == cpu::Graph::gradients) {
      const Gradients<T> found = Functions::gradients(in, One{});
      y0[i] = found.y;
      y1[i] = found.a;
      if constexpr (Kernel::inputs == 2) y2[i] = found.b;
    } else {
      const Gradients<T> found = Functions::gradients(in, g[i]);
      y0[i] = found.a;
      if constexpr (Kernel::inputs == 2) y1[i] = found.b;
    }
  }
  return common != 0;
}

template <class Kernel, class T, class Alpha>
bool is_all_common(const Columns<T, Alpha>& columns, std::ptrdiff_t first, std::ptrdiff_t last) {
  Bits<T> common = 1;
  for (std::ptrdiff_t i = first; i < last; ++i) {
    const auto in = arguments<Kernel>(columns.inputs[0], columns.inputs[1], columns.alpha, i);
    common &= Kernel::is_common(in) ? 1 : 0;
  }
  return common != 0;
}

template <class T, class Alpha>
bool is_in_place(const Columns<T, Alpha>& columns) {
  for (const T* input : columns.inputs) {
    for (const T* output : columns.outputs) {
      if (input != nullptr && input == output) return true;
    }
  }
  return false;
}

template <class Kernel, cpu::Graph graph, class T, class Alpha>
void compute_blocks(const Columns<T, Alpha>& columns, std::ptrdiff_t first, std::ptrdiff_t last) {
  if constexpr (has_ranges<Kernel>) {
    // The common formula is tried first, and checked in the same pass. If outputs replace inputs,
    // the inputs cannot be read again, so the range is checked beforehand.
    const bool must_look = is_in_place(columns);
    for (std::ptrdiff_t begin = first; begin < last; begin += block) {
      const std::ptrdiff_t end = std::min(begin + block, last);
      const bool may_try = !must_look || is_all_common<Kernel>(columns, begin, end);
      if (!may_try || !compute<Kernel, graph, false>(columns, begin, end)) {
        compute<Kernel, graph, true>(columns, begin, end);
      }
    }
  } else {
    compute<Kernel, graph, false>(columns, first, last);
  }
}

template <class Kernel, cpu::Graph graph, class T>
void compute_columns(const T* const (&inputs)[3], T* const (&outputs)[3], double alpha,
                     std::ptrdiff_t first, std::ptrdiff_t last) {
  if constexpr (Kernel::has_alpha) {
    if (alpha != 1) {
      const Columns<T, T> columns = {{inputs[0], inputs[1], inputs[2]},
                                     {outputs[0], outputs[1], outputs[2]},
                                     static_cast<T>(alpha)};
      return compute_blocks<Kernel, graph>(columns, first, last);
    }
  }
  const Columns<T, One> columns = {
      {inputs[0], inputs[1], inputs[2]}, {outputs[0], outputs[1], outputs[2]}, One{}};
  compute_blocks<Kernel, graph>(columns, first, last);
}

template <class Kernel, cpu::Graph graph, class T>
void wide_loop(const cpu::Tensors& tensors, std::ptrdiff_t first, std::ptrdiff_t last) {
  const T* inputs[3];
  T* outputs[3];
  for (int k = 0; k < 3; ++k) {
    inputs[k] = static_cast<const T*>(tensors.inputs[k]);
    outputs[k] = static_cast<T*>(tensors.outputs[k]);
  }
  compute_columns<Kernel, graph>(inputs, outputs, tensors.alpha, first, last);
}

// 16-bit floats are computed in float32, block by block, and rounded once.
template <class Kernel, cpu::Graph graph, class Narrow>
void narrow_loop(const cpu::Tensors& tensors, std::ptrdiff_t first, std::ptrdiff_t last) {
  constexpr int given = input_count(Kernel::inputs, graph);
  constexpr int wanted = output_count(Kernel::inputs, graph);
  alignas(64) float wide[given + wanted][block];
  const float* inputs[3] = {};
  float* outputs[3] = {};
  for (int k = 0; k < given; ++k) inputs[k] = wide[k];
  for (int k = 0; k < wanted; ++k) outputs[k] = wide[given + k];
  for (std::ptrdiff_t begin = first; begin < last; begin += block) {
    const std::ptrdiff_t count = std::min(block, last - begin);
    for (int k = 0; k < given; ++k) {
      widen(static_cast<const Narrow*>(tensors.inputs[k]) + begin, wide[k], count);
    }
    compute_columns<Kernel, graph>(inputs, outputs, tensors.alpha, 0, count);
    for (int k = 0; k < wanted; ++k) {
      narrow(wide[given + k], static_cast<Narrow*>(tensors.outputs[k]) + begin, count);
    }
  }
}

struct Loops {
  template <class Kernel, cpu::Graph graph, class T>
  static void loop(const cpu::Tensors& tensors, std::ptrdiff_t first, std::ptrdiff_t last) {
    if constexpr (sizeof(T) == 2) {
      narrow_loop<Kernel, graph, T>(tensors, first, last);
    } else {
      wide_loop<Kernel, graph, T>(tensors, first, last);
    }
  }
};

}  // namespace GATEWAVE_TARGET
}  // namespace gatewave
