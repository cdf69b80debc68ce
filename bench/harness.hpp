// bench/harness.hpp -- a row of the report: a kernel, and what the machine could do at the most, timed in turns.
// SPDX-License-Identifier: Apache-2.0
//
//   round 1   kernel | limit, plain | limit, prefetching | ... | clock      each long enough for the timer
//   round 2   kernel | ...                                                  and so on: what disturbs one disturbs all
//
// A row's counters: value and limit (of the best way to reach it), both medians over the rounds, in the unit that the
// label names; ratio; noise and limit_noise, the distance between the quartiles as a part of the median; GHz.
// One thread is timed by its own CPU time, which a busy machine disturbs less, two threads by the wall clock.
// Google Benchmark chooses by --benchmark_filter, prints and writes JSON; report.py reads names, labels and counters.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "mxfp4/simd/simd.hpp"

namespace mxfp4::bench {

/// --smoke: tiny shapes and one round, for ctest, which wants the checks and looks at no time.
struct settings {
  bool smoke = false;
  int rounds = 15;
  double batch_seconds = 0.004;  ///< what is timed at once takes at least so long
};
inline settings chosen;

/// What a row is about. W is N x K, M tokens; fields that do not apply are empty or 0.
struct row {
  std::string kernel, activation, output, weights;  ///< weights: view, packed or dense
  std::int64_t n = 0, k = 0, m = 0;
  std::string residency, isa;
  int threads = 1;

  /// The benchmark's name; report.py takes it apart.
  [[nodiscard]] std::string name() const {
    std::string s = kernel;
    const auto field = [&s](const char* key, const std::string& value) {
      if (!value.empty()) s += std::string("/") + key + ":" + value;
    };
    field("activation", activation);
    field("output", output);
    field("weights", weights);
    if (n > 0) field("shape", std::to_string(n) + "x" + std::to_string(k));
    if (m > 0) field("m", std::to_string(m));
    field("residency", residency);
    field("isa", isa);
    field("threads", std::to_string(threads));
    return s;
  }
};

/// The vector units are also asked for less than they have, where they have more.
using avx2_arch = std::conditional_t<simd::has_avx512bw<simd::native_arch>, xsimd::fma3<xsimd::avx2>, void>;

/// Something to time: `amount` bytes, operations or the like in each call, in units of 10^9.
struct work {
  std::string name;
  double amount = 0;
  std::function<void()> call;
  std::function<void()> prepare = {};  ///< what a call needs and nobody times; then each call is timed alone
};

struct subject {
  bool is_right = false;
  std::string unit;
  work kernel;
  std::vector<work> limits;      ///< ways to reach the same limit
  bool limit_is_lowest = false;  ///< they are not ways but parts, each a limit: the lowest counts
  double job = 0;                ///< a whole job, in the unit of the amounts: counter job_seconds
};

[[nodiscard]] inline double seconds(int threads) {
  timespec t{};
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// One work, its rates in all rounds.
class series {
 public:
  series(work w, int threads) : work_(std::move(w)), threads_(threads) {
    static_cast<void>(time(1));  // its data into the cache
    if (const double once = time(1); !work_.prepare)
      calls_ = std::max(1, static_cast<int>(std::min(1e6, chosen.batch_seconds / std::max(once, 1e-9))));
  }
  /// Returns the seconds of a call.
  double sample() {
    if (calls_ > 1) work_.call();  // back into the cache
    const double call = time(calls_) / calls_;
    rates_.push_back(work_.amount / call);
    return call;
  }
  [[nodiscard]] double quantile(double q) const {
    std::vector<double> sorted = rates_;
    std::sort(sorted.begin(), sorted.end());
    const double at = q * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<std::size_t>(at);
    const double above = sorted[std::min(below + 1, sorted.size() - 1)];
    return sorted[below] + (at - static_cast<double>(below)) * (above - sorted[below]);
  }
  [[nodiscard]] double median() const { return quantile(0.5); }
  [[nodiscard]] double noise() const { return (quantile(0.75) - quantile(0.25)) / median(); }
  [[nodiscard]] const std::string& name() const { return work_.name; }

 private:
  [[nodiscard]] double time(int calls) const {
    if (work_.prepare) work_.prepare();
    const double start = seconds(threads_);
    for (int i = 0; i < calls; ++i) work_.call();
    return std::max(seconds(threads_) - start, 1e-9);
  }

  work work_;
  int threads_, calls_ = 1;
  std::vector<double> rates_;
};

/// 10^9 cycles: a chain of additions, each of which waits a cycle for the one before.
[[nodiscard]] inline work clock_cycles() {
  constexpr int steps = 1 << 14;
  return {"clock", steps * 16e-9, [] {
            std::uint64_t x = 1, one = 1;
            for (int i = 0; i < steps; ++i) {
              MXFP4_UNROLL
              for (int j = 0; j < 16; ++j) {
                x += one;
                asm volatile("" : "+r"(x), "+r"(one));
              }
            }
            benchmark::DoNotOptimize(x);
          }};
}

inline bool all_right = true;

inline void measure(benchmark::State& state, int threads, const subject& s) {
  if (!s.is_right) {
    all_right = false;
    state.SkipWithError("the result differs from the reference: no time is taken");
    return;
  }
  series kernel(s.kernel, threads), clock(clock_cycles(), 1);
  std::vector<series> limits;
  for (const work& limit : s.limits) limits.emplace_back(limit, threads);
  for (auto _ : state) {
    state.SetIterationTime(kernel.sample());
    for (series& limit : limits) limit.sample();
    clock.sample();
  }
  const auto by_median = [](const series& a, const series& b) { return a.median() < b.median(); };
  const auto best = s.limit_is_lowest ? std::min_element(limits.begin(), limits.end(), by_median)
                                      : std::max_element(limits.begin(), limits.end(), by_median);
  state.counters["value"] = kernel.median();
  state.counters["noise"] = kernel.noise();
  state.counters["GHz"] = clock.median();
  if (s.job > 0) state.counters["job_seconds"] = s.job / kernel.median();
  if (best == limits.end()) return state.SetLabel(s.unit);
  state.counters["limit"] = best->median();
  state.counters["limit_noise"] = best->noise();
  state.counters["ratio"] = kernel.median() / best->median();
  state.SetLabel(s.unit + ", limit: " + best->name());
}

/// Registers a row; `make` prepares its subject when its turn has come.
inline void add(const row& r, std::function<subject()> make) {
  benchmark::RegisterBenchmark(r.name().c_str(), [threads = r.threads, make = std::move(make)](
                                                     benchmark::State& state) { measure(state, threads, make()); })
      ->Iterations(chosen.smoke ? 1 : chosen.rounds)
      ->UseManualTime()
      ->Unit(benchmark::kMicrosecond);
}

/// What a program's main does. Ends with 1 if a result was wrong.
inline int run(int argc, char** argv, void (*add_rows)()) {
  char** const last = std::remove_if(argv + 1, argv + argc, [](const char* a) { return !std::strcmp(a, "--smoke"); });
  if (last != argv + argc) chosen = {true, 1, 0};
  argc = static_cast<int>(last - argv);
  benchmark::AddCustomContext("isa", simd::isa_name<simd::native_arch>);
#if defined(__clang__)
  benchmark::AddCustomContext("compiler", __VERSION__);
#else
  benchmark::AddCustomContext("compiler", "g++ " __VERSION__);
#endif
  add_rows();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return all_right ? 0 : 1;
}

}  // namespace mxfp4::bench
