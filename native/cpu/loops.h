// Loops over tensors, written for the compiler to vectorise, in the namespace of its target.
#pragma once

#include <algorithm>
#include <cstddef>

#include "cpu/narrow.h"
#include "cpu/table.h"
#include "kernels/entries.h"

namespace gatewave {
inline namespace GATEWAVE_TARGET {

// So many elements at a time: they stay in the first cache, and one far from zero costs only these.
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

template <class Kernel, class T, class Alpha>
bool is_all_common(const Columns<T, Alpha>& columns, std::ptrdiff_t first, std::ptrdiff_t last) {
  const T* a = columns.inputs[0];
  const T* b = columns.inputs[1];
  Bits<T> common = 1;
  for (std::ptrdiff_t i = first; i < last; ++i) {
    common &= Kernel::is_common(arguments<Kernel>(a, b, columns.alpha, i)) ? 1 : 0;
  }
  return common != 0;
}

// A kernel's functions over the ranges: mixed is common where that will do, and any elsewhere, so
// that no result depends on its neighbours.
template <class Kernel, bool is_mixed>
struct Ranged {
  static constexpr Range range = Kernel::has_ranges ? Range::common : Range::any;

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
  GATEWAVE_INLINE static Partials<T> partials(const Arguments<T, Alpha>& in, G g) {
    const Partials<T> common = Kernel::template partials<range>(in, g);
    if constexpr (!is_mixed) {
      return common;
    } else {
      const Partials<T> other = Kernel::template partials<Range::any>(in, g);
      const bool easy = Kernel::is_common(in);
      return {easy ? common.a : other.a, easy ? common.b : other.b};
    }
  }
};

template <class Kernel, cpu::Graph graph, bool is_mixed, class T, class Alpha>
void compute(const Columns<T, Alpha>& columns, std::ptrdiff_t first, std::ptrdiff_t last) {
  using Functions = Ranged<Kernel, is_mixed>;
  const T* a = columns.inputs[0];
  const T* b = columns.inputs[1];
  const T* g = columns.inputs[Kernel::inputs];
  T* const* out = columns.outputs;
  T* y0 = out[0];
  T* y1 = out[1];
  T* y2 = out[2];
  const Alpha alpha = columns.alpha;
  // An output may be an input: each element is read before it is written.
#pragma GCC ivdep
  for (std::ptrdiff_t i = first; i < last; ++i) {
    const Arguments<T, Alpha> in = arguments<Kernel>(a, b, alpha, i);
    if constexpr (graph == cpu::Graph::value) {
      y0[i] = Functions::value(in);
    } else if constexpr (graph == cpu::Graph::gradients) {
      const Partials<T> slopes = Functions::partials(in, One{});
      y0[i] = Functions::value(in);
      y1[i] = slopes.a;
      if constexpr (Kernel::inputs == 2) y2[i] = slopes.b;
    } else {
      const Partials<T> slopes = Functions::partials(in, g[i]);
      y0[i] = slopes.a;
      if constexpr (Kernel::inputs == 2) y1[i] = slopes.b;
    }
  }
}

template <class Kernel, cpu::Graph graph, class T, class Alpha>
void compute_blocks(const Columns<T, Alpha>& columns, std::ptrdiff_t first, std::ptrdiff_t last) {
  if constexpr (Kernel::has_ranges) {
    for (std::ptrdiff_t begin = first; begin < last; begin += block) {
      const std::ptrdiff_t end = std::min(begin + block, last);
      if (is_all_common<Kernel>(columns, begin, end)) {
        compute<Kernel, graph, false>(columns, begin, end);
      } else {
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

// 16-bit floats are computed in float32, a block at a time, and rounded once.
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
