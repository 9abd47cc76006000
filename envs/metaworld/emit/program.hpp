// What emitted programs call. Compile with -ffp-contract=off and without -ffast-math: each operation rounds once,
// as NumPy's does.
#pragma once

#include <mujoco/mjdata.h>
#include <mujoco/mjmodel.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>

#ifdef __FAST_MATH__
#error "programs need IEEE arithmetic: compile without -ffast-math"
#endif

// One class's observation, reward, info and slot updates, after a physics step.
// obs has 39 entries, out has 8: reward, then the 7 of INFO. Slots are read first and updated in place at the end.
using ProgramFunction = void (*)(const mjModel* m, const mjData* d, const float* action, double* slots, double* obs,
                                 double* out);

// The program of that key ("pick_place_v3_v2"), or null.
extern "C" ProgramFunction find_program(const char* key);

// NumPy's inner loops in the order of the operations below, in double then float. Until they are set, the C library's
// functions are used, whose results differ from NumPy's in the last bits.
using NumpyLoop = void (*)(char** args, const std::ptrdiff_t* n, const std::ptrdiff_t* steps, void* data);
struct NumpyFunction {
  NumpyLoop loop;
  void* data;
};
extern "C" void set_numpy_functions(const NumpyFunction* functions);

namespace program {

enum Function { EXP, LOG, SIN, COS, TAN, ARCSIN, ARCCOS, ARCTAN2, TANH, ARCTANH, COSH, N_FUNCTIONS };
extern NumpyFunction numpy_functions[2 * N_FUNCTIONS];

#if METARL_DOT_FMA && defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("fma")
#endif

template <class T>
inline T numpy_call(Function function, T (*fallback)(T), T x) {
  const NumpyFunction& f = numpy_functions[function + (sizeof(T) == 4 ? N_FUNCTIONS : 0)];
  if (!f.loop) return fallback(x);
  T result;
  char* args[] = {reinterpret_cast<char*>(&x), reinterpret_cast<char*>(&result)};
  const std::ptrdiff_t n = 1, steps[] = {sizeof(T), sizeof(T)};
  f.loop(args, &n, steps, f.data);
  return result;
}

template <class T>
inline T numpy_call(Function function, T (*fallback)(T, T), T x, T y) {
  const NumpyFunction& f = numpy_functions[function + (sizeof(T) == 4 ? N_FUNCTIONS : 0)];
  if (!f.loop) return fallback(x, y);
  T result;
  char* args[] = {reinterpret_cast<char*>(&x), reinterpret_cast<char*>(&y), reinterpret_cast<char*>(&result)};
  const std::ptrdiff_t n = 1, steps[] = {sizeof(T), sizeof(T), sizeof(T)};
  f.loop(args, &n, steps, f.data);
  return result;
}

template <class T> inline T exp(T x) { return numpy_call<T>(EXP, std::exp, x); }
template <class T> inline T log(T x) { return numpy_call<T>(LOG, std::log, x); }
template <class T> inline T sin(T x) { return numpy_call<T>(SIN, std::sin, x); }
template <class T> inline T cos(T x) { return numpy_call<T>(COS, std::cos, x); }
template <class T> inline T tan(T x) { return numpy_call<T>(TAN, std::tan, x); }
template <class T> inline T arcsin(T x) { return numpy_call<T>(ARCSIN, std::asin, x); }
template <class T> inline T arccos(T x) { return numpy_call<T>(ARCCOS, std::acos, x); }
template <class T> inline T arctan2(T y, T x) { return numpy_call<T>(ARCTAN2, std::atan2, y, x); }
template <class T> inline T tanh(T x) { return numpy_call<T>(TANH, std::tanh, x); }
template <class T> inline T arctanh(T x) { return numpy_call<T>(ARCTANH, std::atanh, x); }
template <class T> inline T cosh(T x) { return numpy_call<T>(COSH, std::cosh, x); }

// `x ** y` of NumPy scalars is the C library's. Volatile, because compilers turn pow(x, 2.0) into x * x, which differs
// from the library's result in the last bit of about one in a thousand.
template <class T>
inline T power(T x, T y) {
  const volatile T exponent = y;
  return std::pow(x, static_cast<T>(exponent));
}

// NaN wins; of equal operands the second is taken (seen only in the sign of zero).
template <class T> inline T minimum(T a, T b) { return a != a || a < b ? a : b; }
template <class T> inline T maximum(T a, T b) { return a != a || a > b ? a : b; }

// What NumPy's cast does on x86: truncation, and the lowest number where that is impossible.
template <class T>
inline std::int64_t to_i64(T x) {
  const double limit = 9223372036854775808.0;
  return x >= -limit && x < limit ? static_cast<std::int64_t>(x) : std::numeric_limits<std::int64_t>::min();
}

// BLAS's inner product of short vectors: a chain of fused multiply-adds where it was built with them.
template <std::size_t k>
inline double dot(const double (&x)[k], const double (&y)[k]) {
  double sum = 0.0;
  for (std::size_t i = 0; i < k; ++i) {
#if METARL_DOT_FMA
    sum = __builtin_fma(x[i], y[i], sum);
#else
    sum = sum + x[i] * y[i];
#endif
  }
  return sum;
}

// In float32 it sums rounded products in double.
template <std::size_t k>
inline float dot(const float (&x)[k], const float (&y)[k]) {
  double sum = 0.0;
  for (std::size_t i = 0; i < k; ++i) sum = sum + static_cast<double>(x[i] * y[i]);
  return static_cast<float>(sum);
}

// Upstream's touching_object: whether both pads press on a geom, 1 or 0.
// A contact without constraint has efc_address -1, which is Python's last entry of efc_force. Where there are no
// constraints at all Python would raise; the force is then zero here (every Meta-World scene has its mocap weld).
inline double pad_force(const mjData* d, int pad, int geom) {
  double sum = 0.0;
  for (int i = 0; i < d->ncon; ++i) {
    const mjContact& contact = d->contact[i];
    const bool has_pad = contact.geom1 == pad || contact.geom2 == pad;
    const bool has_geom = contact.geom1 == geom || contact.geom2 == geom;
    if (!has_pad || !has_geom || d->nefc == 0) continue;
    sum = sum + d->efc_force[contact.efc_address < 0 ? d->nefc + contact.efc_address : contact.efc_address];
  }
  return sum;
}

inline double touching(const mjData* d, int left_pad, int right_pad, int geom) {
  return 0 < pad_force(d, left_pad, geom) && 0 < pad_force(d, right_pad, geom) ? 1.0 : 0.0;
}

}  // namespace program
