// bench/peers/compare.cpp -- products of several shared objects (peer.h), timed in turns in one process.
// SPDX-License-Identifier: Apache-2.0
//
//   compare [--rounds N] [--shape NxK]... [--tokens M]... [--product NAME]... [--base PRODUCT] PEER.so...
//
// Of the peers' products those named by --product, or all, take part.
//
// Every product is compared with the product in double first; one whose error is above 5 % of the result has no time,
// and the program ends with 1. Then all take turns. A ratio is that of the base, which is the named product of the
// last peer, to the row, round by round: above 1 the row is faster. The interval is that of the median by order
// statistics, at 95 % or a little more.
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "peer.h"

namespace {

struct options {
  int rounds = 15;
  double seconds = 0.004;  ///< of a sample
  std::string base = "f32_packed";
  std::vector<std::pair<std::int64_t, std::int64_t>> shapes;
  std::vector<std::int64_t> tokens;
  std::vector<std::string> products;  ///< none: all
  std::vector<std::string> files;
};

[[noreturn]] void fail(const std::string& message) {
  std::fprintf(stderr, "compare: %s\n", message.c_str());
  std::exit(2);
}

std::int64_t number(const std::string& text, const char* option, std::int64_t low, std::int64_t high) {
  char* end = nullptr;
  const long long value = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || value < low || value > high)
    fail(std::string(option) + " is '" + text + "', expected " + std::to_string(low) + " to " + std::to_string(high));
  return value;
}

options parse(int argc, char** argv) {
  options o;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (!name.starts_with("--")) {
      o.files.emplace_back(name);
      continue;
    }
    if (i + 1 == argc) fail(std::string(name) + " wants a value");
    const std::string value = argv[++i];
    if (name == "--rounds") {
      o.rounds = static_cast<int>(number(value, "--rounds", 9, 1001));
    } else if (name == "--tokens") {
      o.tokens.push_back(number(value, "--tokens", 1, 4096));
    } else if (name == "--product") {
      o.products.push_back(value);
    } else if (name == "--base") {
      o.base = value;
    } else if (name == "--shape") {
      const std::size_t x = value.find('x');
      if (x == std::string::npos) fail("--shape is '" + value + "', expected NxK");
      const std::int64_t k = number(value.substr(x + 1), "K of --shape", 32, 1 << 20);
      if (k % 32 != 0) fail("K of --shape is " + std::to_string(k) + ", expected a multiple of 32");
      o.shapes.emplace_back(number(value.substr(0, x), "N of --shape", 1, (1 << 28) / k), k);  // 2^28 weights: 1 GB
    } else {
      fail("there is no " + std::string(name) + "; expected --rounds, --shape, --tokens, --product, --base");
    }
  }
  if (o.files.empty()) fail("names no shared object, expected one or more");
  if (o.shapes.empty()) o.shapes = {{4096, 4096}};
  if (o.tokens.empty()) o.tokens = {1, 2, 4, 8, 32};
  return o;
}

struct peer {
  explicit peer(const std::string& file) {
    void* const object = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (object == nullptr) fail(dlerror());
    const auto find = [&](auto& function, const char* symbol) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(object, symbol));
      if (function == nullptr) fail(file + " has no " + symbol + "; see peer.h");
    };
    find(name, "peer_name");
    find(products, "peer_products");
    find(create, "peer_create");
    find(prepare, "peer_prepare");
    find(multiply, "peer_multiply");
    find(destroy, "peer_destroy");
  }
  decltype(&peer_name) name;
  decltype(&peer_products) products;
  decltype(&peer_create) create;
  decltype(&peer_prepare) prepare;
  decltype(&peer_multiply) multiply;
  decltype(&peer_destroy) destroy;
};

/// Weights and tokens, and their product in double.
struct problem {
  problem(std::int64_t rows, std::int64_t cols, std::int64_t tokens)
      : n(rows),
        k(cols),
        m(tokens),
        codes(static_cast<std::size_t>(n * k / 2)),
        scales(static_cast<std::size_t>(n * k / 32)),
        x(static_cast<std::size_t>(m * k)),
        exact(static_cast<std::size_t>(m * n)) {
    for (std::uint8_t& c : codes) c = static_cast<std::uint8_t>(next());
    for (std::uint8_t& s : scales) s = static_cast<std::uint8_t>(118 + next() % 8);
    for (float& v : x) {  // near a normal distribution
      double sum = -6;
      for (int i = 0; i < 12; ++i) sum += static_cast<double>(next() >> 11) * 0x1p-53;
      v = static_cast<float>(sum);
    }
    constexpr double weights[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    std::vector<double> row(static_cast<std::size_t>(k));
    for (std::int64_t r = 0; r < n; ++r) {
      for (std::int64_t i = 0; i < k; ++i) {
        const unsigned code = codes[static_cast<std::size_t>((r * k + i) / 2)] >> (i % 2 * 4) & 15u;
        const double scale = std::ldexp(1.0, scales[static_cast<std::size_t>((r * k + i) / 32)] - 127);
        row[static_cast<std::size_t>(i)] = (code < 8 ? scale : -scale) * weights[code % 8];
      }
      for (std::int64_t t = 0; t < m; ++t) {
        double sum = 0;
        for (std::int64_t i = 0; i < k; ++i)
          sum += row[static_cast<std::size_t>(i)] * static_cast<double>(x[static_cast<std::size_t>(t * k + i)]);
        exact[static_cast<std::size_t>(t * n + r)] = sum;
      }
    }
  }
  /// Of y, in the 2-norm, relative to the exact result.
  [[nodiscard]] double error(const std::vector<float>& y) const {
    double off = 0, all = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      off += std::pow(static_cast<double>(y[i]) - exact[i], 2);
      all += exact[i] * exact[i];
    }
    return std::sqrt(off / all);
  }

  std::int64_t n, k, m;
  std::vector<std::uint8_t> codes, scales;
  std::vector<float> x;
  std::vector<double> exact;

 private:
  std::uint64_t next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    return state_ ^= state_ << 17;
  }
  std::uint64_t state_ = 88172645463325252u;
};

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct row {
  std::string peer_name, product;
  const peer* library;
  void* weights;
  double error = 0;
  int calls = 1;
  std::vector<double> seconds{};

  void sample(const problem& p, std::vector<float>& y, int count, bool warm) {
    if (library->prepare(weights, product.c_str(), p.m, p.x.data()) != 0) fail(peer_name + " refuses " + product);
    if (warm && library->multiply(weights, y.data()) != 0) fail(peer_name + ", " + product + " failed");
    const double start = cpu_seconds();
    for (int i = 0; i < count; ++i) static_cast<void>(library->multiply(weights, y.data()));
    seconds.push_back(std::max(cpu_seconds() - start, 1e-9) / count);
  }
};

/// The rank, from 0, of the order statistic below the median with which the one as far above it is a 95 % interval.
std::size_t low_rank(std::size_t n) {
  double tail = std::pow(0.5, static_cast<double>(n)), term = tail;
  std::size_t rank = 0;
  while (rank + 1 < n / 2) {
    term *= static_cast<double>(n - rank) / static_cast<double>(rank + 1);
    if (2 * (tail + term) > 0.05) break;
    tail += term;
    ++rank;
  }
  return rank;
}

bool compare(const options& o, const std::vector<peer>& peers, const problem& p) {
  std::vector<row> rows;
  std::vector<std::pair<const peer*, void*>> made;
  std::vector<float> y(p.exact.size());
  bool right = true;
  for (const peer& library : peers) {
    void* const weights = library.create(p.n, p.k, p.codes.data(), p.scales.data());
    if (weights == nullptr) {
      std::printf("%s takes no such weights\n", library.name());
      continue;
    }
    made.emplace_back(&library, weights);
    std::istringstream names(library.products());
    for (std::string name; names >> name;) {
      if (!o.products.empty() && std::ranges::find(o.products, name) == o.products.end()) continue;
      row r{library.name(), name, &library, weights};
      std::ranges::fill(y, std::numeric_limits<float>::quiet_NaN());
      r.sample(p, y, 1, false);
      r.error = p.error(y);
      if (!(r.error <= 0.05)) {
        std::printf("%s, %s: off by %.3g of the result: not timed\n", r.peer_name.c_str(), name.c_str(), r.error);
        right = false;
        continue;
      }
      r.seconds.clear();
      r.sample(p, y, 1, true);
      r.calls = std::max(1, static_cast<int>(std::min(1e6, o.seconds / r.seconds[0])));
      r.seconds.clear();
      rows.push_back(std::move(r));
    }
  }
  const auto base = std::find_if(rows.rbegin(), rows.rend(), [&o](const row& r) { return r.product == o.base; });
  if (base == rows.rend()) fail("no peer has the base " + o.base + " right");
  for (int round = 0; round < o.rounds; ++round)
    for (row& r : rows) r.sample(p, y, r.calls, true);
  std::printf("\n| M = %lld, %lld x %lld | | us | speed, 95 %% interval | error |\n|---|---|---:|---:|---:|\n",
              static_cast<long long>(p.m), static_cast<long long>(p.n), static_cast<long long>(p.k));
  for (const row& r : rows) {
    std::vector<double> time = r.seconds, ratio;
    for (std::size_t i = 0; i < time.size(); ++i) ratio.push_back(base->seconds[i] / time[i]);
    std::ranges::sort(time);
    std::ranges::sort(ratio);
    const std::size_t low = low_rank(ratio.size()), high = ratio.size() - 1 - low;
    std::printf("| %s | %s | %.1f | %.2f (%.2f .. %.2f) | %.1e |\n", r.peer_name.c_str(), r.product.c_str(),
                1e6 * time[time.size() / 2], ratio[ratio.size() / 2], ratio[low], ratio[high], r.error);
  }
  for (const auto& [library, weights] : made) library->destroy(weights);
  return right;
}

}  // namespace

int main(int argc, char** argv) {
  const options o = parse(argc, argv);
  std::vector<peer> peers;
  for (const std::string& file : o.files) peers.emplace_back(file);
  std::printf("Speed: times as fast as %s of %s.\n", o.base.c_str(), peers.back().name());
  bool right = true;
  for (const auto& [n, k] : o.shapes)
    for (const std::int64_t m : o.tokens) right = compare(o, peers, problem(n, k, m)) && right;
  return right ? 0 : 1;
}
