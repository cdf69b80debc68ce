// bench/dense.hpp -- the alternative without MXFP4: f32 weights and OpenBLAS, where it is installed.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "limits.hpp"
#if defined(MXFP4_BENCH_OPENBLAS)
#include <cblas.h>
#endif

namespace mxfp4::bench {

/// Rows `sgemv` or `sgemm`. Both count operations; gemv's bytes are 4 a weight, against 17 / 32.
inline void add_dense([[maybe_unused]] const shape& s, [[maybe_unused]] std::int64_t m, [[maybe_unused]] bool cold,
                      [[maybe_unused]] int threads) {
#if defined(MXFP4_BENCH_OPENBLAS)
  const row r{m == 1 ? "sgemv" : "sgemm", "f32",      "f32",  "dense", s.n, s.k, m,
              cold ? "cold" : "hot",      "openblas", threads};
  add(r, [r, cold] {
    const std::int64_t copies = cold ? cold_bytes() / (4 * r.n * r.k) + 1 : 1, weights = r.n * r.k;
    const auto w = std::make_shared<memory<float>>(make_numbers<float>(weights * copies));
    const auto data = std::make_shared<product_data>(r);
    const auto at = std::make_shared<std::int64_t>(0);
    const auto next = [=] { return w->data() + weights * (*at = (*at + 1) % copies); };
    const auto run = [=](const float* from) {
      const auto n = static_cast<int>(r.n), k = static_cast<int>(r.k);
      if (r.m == 1)
        cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, 1.0f, from, k, data->x.data(), 1, 0.0f, data->y.data(), 1);
      else
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(r.m), n, k, 1.0f, data->x.data(), k, from,
                    k, 0.0f, data->y.data(), n);
    };
    openblas_set_num_threads(r.threads);
    run(w->data());
    double sum = 0, all = 0;  // the first output, as is_close() has it
    for (std::int64_t k = 0; k < r.k; ++k) {
      const double term = static_cast<double>(w->data()[k]) * static_cast<double>(data->x.data()[k]);
      sum += term;
      all += std::fabs(term);
    }
    subject dense{std::fabs(sum - static_cast<double>(*data->y.data())) <= static_cast<double>(r.k) * 0x1p-23 * all,
                  "Gop/s",
                  {r.kernel, 2e-9 * static_cast<double>(weights * r.m), [=] { run(next()); }},
                  {}};
    if (r.m == 1) {
      dense.unit = "GB/s";
      dense.kernel.amount = 4e-9 * static_cast<double>(weights);
      dense.limits = read_limits(r.threads, [next, weights] {
        return std::span(reinterpret_cast<const std::uint8_t*>(next()), size(4 * weights));
      });
    } else {
      dense.limits = {fma_peak<simd::native_arch>(r.threads)};
    }
    return dense;
  });
#endif
}

}  // namespace mxfp4::bench
