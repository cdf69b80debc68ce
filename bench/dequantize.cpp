// bench/dequantize.cpp -- MXFP4 to f32, bf16 and f16, beside a loop that only moves the bytes.
// SPDX-License-Identifier: Apache-2.0
//
// hot: codes and output in the second-level cache of each core. cold: 2^27 weights, stored past the cache. GB/s is what
// is written. ISA `scalar` is the plain loop of reference/, the oracle.
#include "mxfp4/kernel/dequantize.hpp"
#include "limits.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::bench;

/// Every number of the first and the last rows against the plain loop.
template <class T>
bool is_right(const mx_view<>& w, const dense_view<T>& out) {
  const std::int64_t rows = std::min<std::int64_t>(w.rows, 4);
  std::vector<T> expected(size(rows * w.cols));
  for (const std::int64_t n : {std::int64_t{0}, w.rows - rows}) {
    const mx_view<> some{w.block_codes(n, 0), w.block_scale(n, 0), rows, w.cols, w.code_stride, w.scale_stride};
    if (!reference::dequantize(some, dense_view<T>{expected.data(), rows, w.cols, w.cols}).ok()) return false;
    // Bits, so that a lost sign of zero shows. NOLINTNEXTLINE(bugprone-suspicious-memory-comparison)
    if (std::memcmp(expected.data(), out.row(n), expected.size() * sizeof(T)) != 0) return false;
  }
  return true;
}

/// Arch void: the plain loop.
template <class T, class Arch>
subject prepare(const row& r) {
  const auto weights = std::make_shared<checkpoint_bytes>(r.n, r.k, 1);
  const auto numbers = std::make_shared<memory<T>>(r.n * r.k);
  const mx_view<> w = weights->view(0);
  const dense_view<T> out{numbers->data(), r.n, r.k, r.k};
  const int threads = r.threads;
  const auto run = [=] {
    if constexpr (std::is_void_v<Arch>) return reference::dequantize(w, out).ok();
    else return kernel::dequantize<dialect::ocp, Arch>(w, out, {.executor = executor_for(threads)}).ok();
  };
  subject s{run() && is_right(w, out), "GB/s", {}, {}};
  s.kernel = {r.kernel, 1e-9 * static_cast<double>(r.n * r.k) * sizeof(T), [weights, numbers, run] { run(); }};
  s.limits = r.residency == "cold" ? store_limits<T, true>(r.threads, w, out.data)
                                   : store_limits<T, false>(r.threads, w, out.data);
  return s;
}

template <class T, class Arch = simd::native_arch>
void add_row(const char* output, bool cold, int threads) {
  const std::int64_t rows = chosen.smoke ? 5 : cold ? 32768 : 32 * threads, cols = chosen.smoke ? 512 : 4096;
  row r{"dequantize", "", output, "view", rows, cols, 0, cold ? "cold" : "hot", "scalar", threads};
  if constexpr (!std::is_void_v<Arch>) r.isa = simd::isa_name<Arch>;
  add(r, [r] { return prepare<T, Arch>(r); });
}

void add_rows() {
  for (const bool cold : {false, true}) {
    for (const int threads : {1, 2}) {
      add_row<float>("f32", cold, threads);
      add_row<bf16>("bf16", cold, threads);
      add_row<f16>("f16", cold, threads);
    }
    if constexpr (!std::is_void_v<avx2_arch>) {
      add_row<float, avx2_arch>("f32", cold, 1);
      add_row<bf16, avx2_arch>("bf16", cold, 1);
      add_row<f16, avx2_arch>("f16", cold, 1);
    }
  }
  add_row<float, void>("f32", false, 1);
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, add_rows); }
