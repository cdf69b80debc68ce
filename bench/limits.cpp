// bench/limits.cpp -- the machine itself: reading, storing, multiplying, on one thread and on two.
// SPDX-License-Identifier: Apache-2.0
//
// Each of these is measured again beside every kernel that it limits; here they stand alone, for the roofline.
#include "limits.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::bench;

/// Codes and scales of n x k, and numbers of T for them.
template <class T>
struct storing {
  storing(std::int64_t n, std::int64_t k) : w(n, k, 1), out(n * k) {}
  checkpoint_bytes w;
  memory<T> out;
};

/// The best way is taken for the value: there is nothing to compare with.
[[nodiscard]] subject best_of(int threads, const std::string& unit, std::vector<work> ways,
                              std::shared_ptr<void> data) {
  std::size_t best = 0;
  double highest = 0;
  for (std::size_t i = 0; i < ways.size(); ++i) {
    series s(ways[i], threads);
    for (int round = 0; round < 3; ++round) s.sample();
    if (s.median() > highest) best = i;
    highest = std::max(highest, s.median());
  }
  work chosen_way = ways[best];
  chosen_way.call = [call = chosen_way.call, data = std::move(data)] { call(); };
  return {true, unit + ", " + chosen_way.name, std::move(chosen_way), {}};
}

void add_read(const char* where, std::int64_t bytes, int threads) {
  add({"read", "", "", "", 0, 0, 0, where, "", threads}, [=] {
    const auto all = std::make_shared<memory<std::uint8_t>>(bytes);
    return best_of(threads, "GB/s", read_limits(threads, [bytes = all->bytes()] { return bytes; }), all);
  });
}

template <class T, bool Stream>
void add_store(const char* kernel, const char* output, const char* where, std::int64_t rows, int threads) {
  add({kernel, "", output, "", 0, 0, 0, where, "", threads}, [=] {
    const auto data = std::make_shared<storing<T>>(rows, 4096);
    return best_of(threads, "GB/s", store_limits<T, Stream>(threads, data->w.view(0), data->out.data()), data);
  });
}

template <class Arch>
void add_peaks(int threads) {
  row r{"fma_peak", "", "", "", 0, 0, 0, "", simd::isa_name<Arch>, threads};
  add(r, [=] { return best_of(threads, "Gop/s", {fma_peak<Arch>(threads)}, nullptr); });
  r.kernel = "dot_peak";
  add(r, [=] { return best_of(threads, "Gop/s", {dot_peak<Arch>(threads)}, nullptr); });
}

void add_rows() {
  add({"clock", "", "", "", 0, 0, 0, "", "", 1}, [] { return best_of(1, "GHz", {clock_cycles()}, nullptr); });
  for (const int threads : {1, 2}) {
    add_read("L2", threads * (std::int64_t{1} << 19), threads);
    add_read("L3", std::int64_t{8} << 20, threads);
    add_read("cold", cold_bytes(), threads);
    const std::int64_t hot_rows = std::int64_t{32} * threads, cold_rows = chosen.smoke ? 8 : 32768;
    add_store<float, false>("store_17_128", "f32", "hot", hot_rows, threads);
    add_store<bf16, false>("store_17_64", "bf16", "hot", hot_rows, threads);
    add_store<float, true>("store_17_128", "f32", "cold", cold_rows, threads);
    add_store<bf16, true>("store_17_64", "bf16", "cold", cold_rows, threads);
    add_peaks<simd::native_arch>(threads);
    if constexpr (!std::is_void_v<avx2_arch>) add_peaks<avx2_arch>(threads);
  }
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, add_rows); }
