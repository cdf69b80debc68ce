// bench/scaling.cpp -- two threads, beside two processes that have nothing in common, in the same run.
// SPDX-License-Identifier: Apache-2.0
//
//   bench_scaling [rounds, 200]
//
// Four samples take turns: the product on core 0, on core 1, with an executor of two threads on both, and by two
// processes at the same time, each on its core, with weights and tokens of its own. What two processes gain over one is
// all that the machine has to give; what the executor loses is the difference. Its time is the clock's, the others' are
// processor time, of two processes the longer: so other work on the machine counts against the executor alone. Compared
// are the fastest samples but two per cent.
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "data.hpp"
#include "mxfp4/linalg.hpp"
#include "threads.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::bench;

void stay_on(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(core), &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) {
    std::fprintf(stderr, "scaling: cannot stay on core %d\n", core);
    std::exit(4);  // as a test: skipped
  }
}

/// A product, with weights, tokens and results of its own.
class product {
 public:
  product(std::int64_t n, std::int64_t k, std::int64_t m, bool int8)
      : n_(n), k_(k), m_(m), int8_(int8), x_(m * k), y_(m * n) {
    const checkpoint_bytes bytes(n, k, 1);
    packed_ = *pack(const_mx_view<>(bytes.view(0)));
    random_bits random(7);
    for (float& v : x_) v = random.bell(1.0f);
    quantized_ = *quantize_activations(dense_view<const float>{x_.data(), m, k, k}, int8_scaling::e8m0);
  }
  void run(executor_ref executor) {
    const dense_view<float> y{y_.data(), m_, n_, n_};
    const gemm_options options{false, executor};
    const status s = int8_ ? gemm(packed_, quantized_, y, options)
                           : gemm(packed_, dense_view<const float>{x_.data(), m_, k_, k_}, y, options);
    if (!s.ok()) std::abort();
  }
  [[nodiscard]] double seconds(executor_ref executor, clockid_t clock = CLOCK_THREAD_CPUTIME_ID) {
    const auto now = [clock] {
      timespec t{};
      clock_gettime(clock, &t);
      return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
    };
    const double start = now();
    run(executor);
    return now() - start;
  }

 private:
  std::int64_t n_, k_, m_;
  bool int8_;
  packed_matrix packed_;
  memory<float> x_, y_;
  int8_activations quantized_;
};

/// What the two processes share.
struct mailbox {
  std::atomic<int> wanted{0}, ready{0}, go{0}, done{0};  ///< the number of the sample; wanted: -1 to end
  std::atomic<double> seconds{0};
};

/// Waits for the sample after `seen` with naps, for its start without.
[[noreturn]] void serve(mailbox& box, product& p) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // it does not outlive the first process
  stay_on(1);
  p.run(serial);
  for (int seen = 0;;) {
    int wanted = 0;
    while ((wanted = box.wanted.load()) == seen) usleep(100);
    if (wanted < 0) std::_Exit(0);
    p.run(serial);  // as warm as the others
    box.ready = wanted;
    while (box.go.load() != wanted) {
    }
    box.seconds = p.seconds(serial);
    box.done = seen = wanted;
  }
}

double best(std::vector<double> samples) {
  std::ranges::sort(samples);
  return samples[samples.size() / 50];
}

void measure(const char* name, std::int64_t n, std::int64_t k, std::int64_t m, bool int8, int rounds) {
  void* const shared = mmap(nullptr, sizeof(mailbox), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) std::abort();
  mailbox& box = *new (shared) mailbox;
  const pid_t child = fork();
  if (child < 0) std::abort();
  product p(n, k, m, int8);
  if (child == 0) serve(box, p);
  stay_on(1);
  two_threads both;  // the other thread stays on core 1
  p.run(both);
  std::vector<double> one, other, threads, processes;
  for (int i = 1; i <= rounds; ++i) {
    stay_on(1);
    p.run(serial);
    other.push_back(p.seconds(serial));
    stay_on(0);
    p.run(serial);
    one.push_back(p.seconds(serial));
    p.run(both);
    threads.push_back(p.seconds(both, CLOCK_MONOTONIC));
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // the other thread goes to sleep
    box.wanted = i;
    p.run(serial);
    while (box.ready.load() != i) {
    }
    box.go = i;
    const double mine = p.seconds(serial);
    while (box.done.load() != i) {
    }
    processes.push_back(std::max(mine, box.seconds.load()));
  }
  box.wanted = -1;
  waitpid(child, nullptr, 0);
  munmap(shared, sizeof(mailbox));
  const double alone = (best(one) + best(other)) / 2, ops = 2e-9 * static_cast<double>(n * k * m);
  std::printf("| %s | %lld x %lld | %lld | %.1f | %.2f | %.2f |\n", name, static_cast<long long>(n),
              static_cast<long long>(k), static_cast<long long>(m), ops / alone, alone / best(threads),
              2 * alone / best(processes));
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const bool smoke = argc > 1 && std::strcmp(argv[1], "--smoke") == 0;
  const int rounds = smoke ? 1 : argc > 1 ? std::atoi(argv[1]) : 200;
  if (rounds < 1 || std::thread::hardware_concurrency() < 2) {
    std::fprintf(stderr, "scaling: wants two cores, and 1 round or more\n");
    return rounds < 1 ? 2 : 4;
  }
  stay_on(0);  // ends where the two are not this program's, before there is a second process
  stay_on(1);
  std::puts("| product | shape | M | Gop/s, one thread | two threads | two processes |\n|---|---|---:|---:|---:|---:|");
  for (const auto& [n, k] : {std::pair<std::int64_t, std::int64_t>{3072, 1536}, {4096, 4096}})
    for (const std::int64_t m : {8, 32, 128}) {
      if (smoke && (n > 3072 || m > 8)) continue;
      measure("f32", n, k, m, false, rounds);
      measure("int8", n, k, m, true, rounds);
    }
  return 0;
}
