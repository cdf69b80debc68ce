// bench/moe.cpp -- a layer of 256 experts, 8 of them for a token: what of the machine's reading speed is left.
// SPDX-License-Identifier: Apache-2.0
//
// MiniMax-M2: H = 3072, I = 1536, 1.9 GB in all. One token goes to other experts each time; 32 tokens go to about 160
// experts, which is more than a cache holds. GB/s is 17 bytes per 32 weights of the experts in use.
#include "mxfp4/moe/moe.hpp"
#include "limits.hpp"
#include "mxfp4/reference/sigmoid.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::bench;

constexpr std::int64_t top_k = 8;

/// Random codes under scale bytes 118..125; a matrix has the next seed.
packed_matrix make_packed(std::int64_t n, std::int64_t k) {
  static std::uint64_t seed = 0;
  random_bits random(++seed);
  packed_matrix w = *packed_matrix::uninitialized(n, k);
  for (std::int64_t t = 0; t < w.tiles(); ++t) {
    for (std::int64_t i = 0; i < w.blocks() * tile_block_bytes; i += 8) {
      const std::uint64_t codes = random();
      std::memcpy(w.codes(t) + i, &codes, sizeof codes);
    }
    for (std::int64_t i = 0; i < w.blocks() * tile_rows; ++i)
      w.scales(t)[i] = static_cast<std::uint8_t>(118 + i * 5 % 8);
    w.update_range(t);
  }
  return w;
}

/// All experts, and a hand that goes round: kernel and limits take turns, and none reads what was just read.
class layer {
 public:
  layer() {
    for (std::int64_t e = 0; e < (chosen.smoke ? 16 : 256); ++e)
      experts.push_back({make_packed(rows, cols), make_packed(rows, cols), make_packed(cols, rows)});
  }
  [[nodiscard]] std::span<const std::uint8_t> next_matrix() {
    const expert<packed_matrix>& e = experts[size(at_ / 3)];
    const packed_matrix* const all[] = {&e.gate, &e.up, &e.down};
    const std::span<const std::uint8_t> bytes = all[at_ % 3]->bytes();
    at_ = (at_ + 1) % (3 * count());
    return bytes;
  }
  [[nodiscard]] std::int32_t next_expert() {
    at_ = (at_ + 2) / 3 * 3 % (3 * count());
    const auto e = static_cast<std::int32_t>(at_ / 3);
    at_ = (at_ + 3) % (3 * count());
    return e;
  }
  [[nodiscard]] std::int64_t count() const { return static_cast<std::int64_t>(experts.size()); }

  std::int64_t rows = chosen.smoke ? 64 : 1536, cols = chosen.smoke ? 96 : 3072;
  std::vector<expert<packed_matrix>> experts;

 private:
  std::int64_t at_ = 0;
};

/// Tokens, where they go, and what comes back.
struct moe_data {
  moe_data(const layer& l, std::int64_t m)
      : tokens(m),
        hidden(l.cols),
        x(m * l.cols),
        y(m * l.cols),
        weights(m * top_k),
        indices(m * top_k),
        workspace(*moe_workspace::create({m, top_k, l.count(), l.cols, l.rows})) {
    random_bits random(4);
    for (float& v : x) v = random.bell(1.0f);
    for (float& w : weights) w = 1.0f / top_k;
    for (std::int64_t i = 0; i < m * top_k; ++i) {
      std::int32_t* const token = indices.data() + i / top_k * top_k;
      do {
        indices.data()[i] = static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(l.count()));
      } while (std::find(token, indices.data() + i, indices.data()[i]) != indices.data() + i);  // an expert once
    }
    quantized = *quantize_activations(dense_view<const float>{x.data(), m, hidden, hidden}, int8_scaling::e8m0);
  }
  [[nodiscard]] bool run(const layer& l, int threads) {
    return moe(l.experts, quantized, {indices.data(), tokens, top_k, top_k}, {weights.data(), tokens, top_k, top_k},
               {y.data(), tokens, hidden, hidden}, workspace, {false, executor_for(threads)})
        .ok();
  }
  [[nodiscard]] std::int64_t experts_in_use() const {
    std::vector<std::int32_t> all(indices.begin(), indices.end());
    std::sort(all.begin(), all.end());
    return std::unique(all.begin(), all.end()) - all.begin();
  }

  std::int64_t tokens, hidden;
  memory<float> x, y, weights;
  memory<std::int32_t> indices;
  moe_workspace workspace;
  int8_activations quantized;
};

/// The last token's result, from gemv's (which gemv.cpp checks), silu and an fma for each expert.
bool is_equal(const layer& l, const moe_data& d) {
  const std::int64_t m = d.tokens - 1;
  const auto quantized = [](const float* v, std::int64_t cols) {
    return *quantize_activations(dense_view<const float>{v, 1, cols, cols}, int8_scaling::e8m0);
  };
  const int8_activations token = quantized(d.x.data() + m * d.hidden, d.hidden);
  std::vector<float> gate(size(l.rows)), up(gate.size()), down(size(l.cols)), sum(down.size());
  for (std::int64_t slot = m * top_k; slot < (m + 1) * top_k; ++slot) {
    const expert<packed_matrix>& e = l.experts[size(d.indices.data()[slot])];
    if (!gemv(e.gate, token, gate).ok() || !gemv(e.up, token, up).ok()) return false;
    for (std::size_t i = 0; i < gate.size(); ++i) gate[i] = silu(gate[i]) * up[i];
    if (!gemv(e.down, quantized(gate.data(), l.rows), down).ok()) return false;
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = std::fma(d.weights.data()[slot], down[i], sum[i]);
  }
  return std::equal(sum.begin(), sum.end(), d.y.data() + m * d.hidden);
}

void add_moe(std::int64_t m, int threads) {
  const std::int64_t n = chosen.smoke ? 64 : 1536, k = chosen.smoke ? 96 : 3072;
  add({"moe", "int8_e8m0", "f32", "packed", n, k, m, "cold", simd::isa_name<simd::native_arch>, threads}, [m, threads] {
    static layer all;  // made once
    const auto data = std::make_shared<moe_data>(all, m);
    const auto call = [data, m, threads] {
      if (m == 1) std::generate_n(data->indices.begin(), top_k, [] { return all.next_expert(); });
      return data->run(all, threads);
    };
    const bool is_right = call() && is_equal(all, *data);
    const double bytes = static_cast<double>(3 * all.rows * all.cols * data->experts_in_use()) * 17 / 32;
    return subject{is_right, "GB/s", {"moe", 1e-9 * bytes, [call] { call(); }}, read_limits(threads, [] {
                     return all.next_matrix();
                   })};
  });
}

void add_rows() {
  for (const std::int64_t m : {1, 32})
    for (const int threads : {1, 2}) add_moe(m, threads);
}

}  // namespace

int main(int argc, char** argv) { return run(argc, argv, add_rows); }
