// tests/model.forward.test.cpp -- the forward pass against one in double, which shares nothing with it and can be wrong
// on purpose; a cache of keys and values; activations in int8 and MXFP8.
//
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "checkpoint/reader_json.hpp"
#include "model.support.hpp"
#include "model/evaluate.hpp"
#include "model/generate.hpp"
#include "model/served_activations.hpp"
#include "support/backward_executor.hpp"
#include "support/threads.hpp"

namespace {

using namespace mxfp4::checkpoint;
using namespace mxfp4::io;
using namespace mxfp4::model;
using namespace mxfp4::test;

constexpr double bound = 1e-4;  // of the largest logit

const std::vector<std::int64_t> prompt = [] {
  std::vector<std::int64_t> ids;
  splitmix random(5);
  for (int i = 0; i < 37; ++i) ids.push_back(random.in(0, 255));  // blocks of tokens and of keys are left over
  return ids;
}();

model_config config_of(const checkpoint_reader& checkpoint) {
  return read_model_config(read_config(checkpoint), "config.json");
}

token_rows logits_of(const checkpoint_reader& checkpoint, std::span<const std::int64_t> ids,
                     const product_options& options = {}, std::uint64_t memory = UINT64_MAX) {
  generator model(checkpoint, config_of(checkpoint), options, memory);
  return model.take(ids, false);
}

/// The largest difference, in units of the largest logit.
double distance(const token_rows& logits, const oracle_result& expected) {
  double difference = 0, largest = 0;
  for (std::int64_t t = 0; t < logits.count; ++t)
    for (std::int64_t i = 0; i < logits.size; ++i) {
      const double x = expected.logits[static_cast<std::size_t>(t)][static_cast<std::size_t>(i)];
      difference = std::fmax(difference, std::fabs(x - static_cast<double>(logits.row(t)[i])));
      largest = std::fmax(largest, std::fabs(x));
    }
  return difference / largest;
}

/// |a - b| / |b| of the token in the middle: some tokens take another expert, and are far off then.
double median_distance(const token_rows& a, const token_rows& b) {
  std::vector<double> distances;
  for (std::int64_t t = 0; t < b.count; ++t) {
    double error = 0, values = 0;
    for (std::int64_t i = 0; i < b.size; ++i) {
      const auto x = static_cast<double>(b.row(t)[i]), y = static_cast<double>(a.row(t)[i]);
      error += (x - y) * (x - y);
      values += x * x;
    }
    distances.push_back(std::sqrt(error / values));
  }
  std::sort(distances.begin(), distances.end());
  return distances[distances.size() / 2];
}

}  // namespace

TEST_CASE("model: every form of weights gives the logits of the pass in double", "[model][forward]") {
  for (const weight_kind kind : {weight_kind::f32, weight_kind::bf16, weight_kind::fp8, weight_kind::mxfp4_experts}) {
    CAPTURE(static_cast<int>(kind));
    const scratch_folder folder;
    const tiny_model tiny(kind);
    const checkpoint_reader checkpoint = checkpoint_reader::open(tiny.write(folder / "m")).value();
    const oracle_result expected = forward_oracle(tiny, variant::none).run(prompt);
    REQUIRE(expected.router_margin > 1e-5);  // rounding chooses no other expert
    CHECK(distance(logits_of(checkpoint, prompt), expected) <= bound);
  }
}

TEST_CASE("model: what is easily mistaken is a hundred times the bound away", "[model][forward]") {
  const scratch_folder folder;
  const tiny_model tiny(weight_kind::f32);
  const checkpoint_reader checkpoint = checkpoint_reader::open(tiny.write(folder / "m")).value();
  const token_rows logits = logits_of(checkpoint, prompt);
  for (const variant wrong : {variant::swapped_w1_w3, variant::interleaved_rope, variant::norm_per_head,
                              variant::bias_in_weights, variant::not_renormalised}) {
    CAPTURE(static_cast<int>(wrong));
    CHECK(distance(logits, forward_oracle(tiny, wrong).run(prompt)) >= 100 * bound);
  }
}

TEST_CASE("model: a cache changes no bit, nor do threads, nor experts that are read again", "[model][cache]") {
  const scratch_folder folder;
  const checkpoint_reader checkpoint =
      checkpoint_reader::open(tiny_model(weight_kind::fp8).write(folder / "m")).value();
  const model_config config = config_of(checkpoint);
  const token_rows all = logits_of(checkpoint, prompt);
  const threads two{2};
  CHECK(logits_of(checkpoint, prompt, {activation_type::f32, two}).data == all.data);
  CHECK(logits_of(checkpoint, prompt, {}, 0).data == all.data);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{5}, std::size_t{20}}) {
    CAPTURE(piece);
    generator model(checkpoint, config, {}, UINT64_MAX);
    std::vector<float> logits;
    for (std::size_t first = 0; first < prompt.size(); first += piece) {
      const std::span<const std::int64_t> ids =
          std::span(prompt).subspan(first, std::min(piece, prompt.size() - first));
      const token_rows part = model.take(ids, false);
      logits.insert(logits.end(), part.data.begin(), part.data.end());
    }
    CHECK(logits == all.data);
  }
}

TEST_CASE("model: MXFP4 experts token by token are those of all at once", "[model][cache]") {
  const scratch_folder folder;
  const checkpoint_reader checkpoint =
      checkpoint_reader::open(tiny_model(weight_kind::mxfp4_experts).write(folder / "m")).value();
  const token_rows all = logits_of(checkpoint, prompt);
  generator model(checkpoint, config_of(checkpoint), {}, UINT64_MAX);
  token_rows one_by_one(0, all.size);
  for (const std::int64_t& id : prompt) {
    const token_rows last = model.take({&id, 1});
    one_by_one.data.insert(one_by_one.data.end(), last.data.begin(), last.data.end());
  }
  CHECK(one_by_one.data == all.data);
}

TEST_CASE("model: the store of experts keeps what fits", "[model][cache]") {
  const scratch_folder folder;
  const checkpoint_reader checkpoint =
      checkpoint_reader::open(tiny_model(weight_kind::bf16).write(folder / "m")).value();
  const model_config config = config_of(checkpoint);
  constexpr std::uint64_t bytes = 2 * 3 * tiny_model::hidden * tiny_model::intermediate;  // of an expert
  expert_store store(checkpoint, config, 2 * bytes);
  CHECK(store.get(0, 0).memory_bytes() == bytes);
  (void)store.get(1, 4);
  (void)store.get(0, 0);
  CHECK((store.loads() == 2 && store.bytes() == 2 * bytes));
  (void)store.get(0, 3);  // layer 1's goes: it was used before the other one
  (void)store.get(0, 0);
  CHECK((store.loads() == 3 && store.bytes() == 2 * bytes));
  (void)store.get(1, 4);
  CHECK(store.loads() == 4);
  expert_store none(checkpoint, config, 0);
  (void)none.get(0, 0);
  CHECK(none.bytes() == bytes);  // the one in use
}

TEST_CASE("model: the store of experts gives several at once, as many as fit", "[model][cache]") {
  const scratch_folder folder;
  const checkpoint_reader checkpoint =
      checkpoint_reader::open(tiny_model(weight_kind::mxfp4_experts).write(folder / "m")).value();
  const model_config config = config_of(checkpoint);
  const std::vector<std::int32_t> wanted = {0, 1, 2, 3, 4};
  backward_executor backward;
  for (const std::uint64_t kept : {0u, 1u, 2u, 4u, 5u, 8u}) {
    CAPTURE(kept);
    expert_store first(checkpoint, config, UINT64_MAX);
    const std::uint64_t bytes = first.get(0, 2).memory_bytes();
    expert_store store(checkpoint, config, kept * bytes, backward);
    for (int again = 0; again < 2; ++again) {
      std::vector<int> calls(wanted.size());
      store.for_each(0, wanted, [&](std::size_t i, const expert_weights& weights) {
        ++calls[i];
        token_rows x(1, config.shape.hidden);
        for (std::int64_t k = 0; k < x.size; ++k) x.row(0)[k] = static_cast<float>(k % 7) - 2.5f;
        CHECK(weights.outputs(x, {}).data == first.get(0, wanted[i]).outputs(x, {}).data);
      });
      CHECK(calls == std::vector<int>(wanted.size(), 1));
      CHECK(store.bytes() == std::clamp<std::uint64_t>(kept, 1, 5) * bytes);
    }
    CHECK(store.loads() + store.hits() == 10);
    CHECK(store.hits() == std::clamp<std::int64_t>(static_cast<std::int64_t>(kept), 1, 5));  // they come first
  }
  // What throws is not kept, what was read beside it is.
  expert_store store(checkpoint, config, UINT64_MAX);
  const std::uint64_t bytes = store.get(0, 0).memory_bytes();
  CHECK_THROWS_AS(store.for_each(0, wanted,
                                 [](std::size_t i, const expert_weights&) {
                                   if (i == 2) throw std::runtime_error("of the work");
                                 }),
                  std::runtime_error);
  CHECK((store.loads() == 3 && store.bytes() == 3 * bytes));  // tasks one after the other: 2 was read, 3 not begun
  for (const std::string& shard : checkpoint.shards())
    std::filesystem::resize_file(checkpoint.directory() + "/" + shard, 100);
  CHECK_THROWS_AS(store.for_each(0, wanted, [](std::size_t, const expert_weights&) {}), file_error);
  CHECK((store.loads() == 3 && store.bytes() == 3 * bytes));
  int calls = 0;
  store.for_each(0, std::span(wanted).first(3), [&](std::size_t, const expert_weights&) { ++calls; });
  CHECK(calls == 3);
}

TEST_CASE("model: threads, and experts that are read again, change no bit of a token's logits", "[model][cache]") {
  const scratch_folder folder;
  for (const weight_kind kind : {weight_kind::mxfp4_experts, weight_kind::bf16}) {
    const checkpoint_reader checkpoint = checkpoint_reader::open(tiny_model(kind).write(folder / "m")).value();
    for (const activation_type type : {activation_type::f32, activation_type::int8_residual2}) {
      generator all(checkpoint, config_of(checkpoint), {type, {}}, UINT64_MAX);
      const mxfp4::test::threads three_threads{3};
      const std::uint64_t three = 3 * expert_weights(checkpoint, config_of(checkpoint), 0, 0).memory_bytes();
      generator few(checkpoint, config_of(checkpoint), {type, three_threads}, three);
      for (const std::int64_t& id : prompt) REQUIRE(few.take({&id, 1}).data == all.take({&id, 1}).data);
      CHECK(few.experts().loads() > all.experts().loads());
    }
  }
}

TEST_CASE("model: windows are texts of their own", "[model][evaluate]") {
  const scratch_folder folder;
  const checkpoint_reader checkpoint =
      checkpoint_reader::open(tiny_model(weight_kind::f32).write(folder / "m")).value();
  const model_config config = config_of(checkpoint);
  evaluation_options options;
  options.context = 16;  // 16, 16, 5
  const std::vector<evaluation_target> targets = {{"itself", &checkpoint, {}}};
  const std::vector<target_result> results = evaluate(checkpoint, targets, config, prompt, options);
  REQUIRE(results.size() == 1);
  REQUIRE(results[0].tokens.size() == 15 + 15 + 4);
  std::size_t at = 0;
  for (std::size_t first = 0; first < prompt.size(); first += 16) {
    const std::span<const std::int64_t> window =
        std::span(prompt).subspan(first, std::min<std::size_t>(16, prompt.size() - first));
    const token_rows logits = logits_of(checkpoint, window);
    for (std::size_t t = 0; t + 1 < window.size(); ++t, ++at) {
      const std::span<const float> row(logits.row(static_cast<std::int64_t>(t)), static_cast<std::size_t>(logits.size));
      CHECK(results[0].tokens[at].reference_nll == compare_logits(row, row, window[t + 1]).reference_nll);
      CHECK(results[0].tokens[at].kld == 0.0);
    }
  }
  for (const layer_comparison& l : results[0].layers) CHECK((l.hidden_error == 0.0 && l.router_agreement == 1.0));
  CHECK(results[0].experts.size() == tiny_model::layers * tiny_model::experts);
  for (const expert_error& e : results[0].experts) CHECK(e.relative_error == 0.0);
}

TEST_CASE("model: int8 and MXFP8 activations reach MXFP4 weights, and are as far off as their steps",
          "[model][forward]") {
  const scratch_folder folder;
  const tiny_model tiny(weight_kind::mxfp4_experts);
  const checkpoint_reader checkpoint = checkpoint_reader::open(tiny.write(folder / "m")).value();
  const std::string name = "model.layers.0.block_sparse_moe.experts.0.w1";
  const linear w = linear::load(checkpoint, name, tiny_model::intermediate, tiny_model::hidden);
  REQUIRE(w.is_mxfp4());
  token_rows x(7, tiny_model::hidden), exact(7, w.rows()), y(7, w.rows());
  splitmix random(3);
  for (float& v : x.data) v = random.with_exponent(120, 130);
  w.multiply(x.view(), exact.view(), {});
  struct row {
    activation_type type;
    double step;  // what a number may be off, in units of the largest of its block
  };
  // MXINT8: 64 steps to 2^floor(log2 amax), cut at 127; residual: as quantize_activations says. E4M3: half of 2^-3, and
  // cut at 448 where amax is below 512. What f32 sums are off by is 1e-6 of the magnitudes here.
  for (const auto& [type, step] :
       {row{activation_type::int8, 1.0 / 64}, row{activation_type::int8_residual2, 0x1p-13},
        row{activation_type::int8_residual3, 0x1p-20}, row{activation_type::mxfp8, 1.0 / 8}}) {
    CAPTURE(static_cast<int>(type));
    w.multiply(x.view(), y.view(), {type, {}});
    CHECK(y.data != exact.data);
    for (std::int64_t m = 0; m < x.count; ++m)
      for (std::int64_t n = 0; n < w.rows(); ++n) {
        double allowed = 0;
        for (std::int64_t b = 0; b < w.cols(); b += 32) {
          double amax = 0, weights = 0;
          for (std::int64_t k = b; k < b + 32; ++k) {
            amax = std::fmax(amax, std::fabs(static_cast<double>(x.row(m)[k])));
            weights += std::fabs(tiny.matrix(name).at(n, k));
          }
          allowed += weights * amax * (step + 1e-6);
        }
        CHECK(std::fabs(static_cast<double>(y.row(m)[n]) - static_cast<double>(exact.row(m)[n])) <= allowed);
      }
  }
  const token_rows logits = logits_of(checkpoint, prompt);
  const double int8 = median_distance(logits_of(checkpoint, prompt, {activation_type::int8, {}}), logits);
  const double mxfp8 = median_distance(logits_of(checkpoint, prompt, {activation_type::mxfp8, {}}), logits);
  const double two = median_distance(logits_of(checkpoint, prompt, {activation_type::int8_residual2, {}}), logits);
  const double three = median_distance(logits_of(checkpoint, prompt, {activation_type::int8_residual3, {}}), logits);
  CAPTURE(int8, mxfp8, two, three);
  CHECK((two > 0 && two < int8 / 50));
  CHECK(three < 1e-5);
  CHECK((int8 > 1e-4 && int8 < 0.05));
  CHECK((mxfp8 > 1e-3 && mxfp8 < 0.2));
}

TEST_CASE("model: activations as servers make them", "[model][forward]") {
  // Two groups of 128 and a shorter one. amax 448: scale 1, so that a number becomes its E4M3.
  token_rows x(2, 288);
  x.row(0)[0] = 448, x.row(0)[1] = 1.0625f, x.row(0)[2] = -300, x.row(0)[3] = 0x1p-10f;
  x.row(0)[128] = 0;                            // a group of zeros stays so
  x.row(0)[256] = 896, x.row(0)[257] = 2.125f;  // scale 2
  x.row(1)[5] = 7, x.row(1)[140] = std::numeric_limits<float>::infinity();
  const token_rows fp8 = as_fp8(x.view());
  CHECK((fp8.row(0)[0] == 448 && fp8.row(0)[1] == 1 && fp8.row(0)[2] == -288 && fp8.row(0)[3] == 0));
  CHECK((fp8.row(0)[128] == 0 && fp8.row(0)[256] == 896 && fp8.row(0)[257] == 2));  // 1.0625 is a tie: even
  CHECK((std::fabs(fp8.row(1)[5] - 7) <= 0x1p-20f && fp8.row(1)[6] == 0));
  CHECK((std::isnan(fp8.row(1)[128]) && std::isnan(fp8.row(1)[255]) && fp8.row(1)[256] == 0));
  token_rows y(1, 64);
  y.row(0)[0] = 6, y.row(0)[1] = 2.5f, y.row(0)[2] = -0.3f, y.row(0)[3] = 0.2f;
  y.row(0)[32] = 7;  // 7 / 4 rounds up: scale 2, and 3.5 is a tie of 3 and 4
  const token_rows mxfp4 = as_mxfp4(y.view());
  CHECK((mxfp4.row(0)[0] == 6 && mxfp4.row(0)[1] == 2 && mxfp4.row(0)[2] == -0.5f && mxfp4.row(0)[3] == 0));
  CHECK(mxfp4.row(0)[32] == 8);

  const scratch_folder folder;
  const checkpoint_reader checkpoint =
      checkpoint_reader::open(tiny_model(weight_kind::mxfp4_experts).write(folder / "m")).value();
  const token_rows logits = logits_of(checkpoint, prompt);
  const double eight = median_distance(logits_of(checkpoint, prompt, {activation_type::fp8, {}}), logits);
  const double four = median_distance(logits_of(checkpoint, prompt, {activation_type::mxfp4, {}}), logits);
  CAPTURE(eight, four);
  CHECK((eight > 1e-3 && eight < 0.2));
  CHECK((four > 2 * eight && four < 1));
}

TEST_CASE("model: a sample follows its probabilities", "[model][generate]") {
  std::mt19937_64 random(1);
  const std::vector<float> logits = {0, std::log(3.0f), -1e4f};
  CHECK(sample(logits, 0, random) == 1);
  CHECK(sample(std::vector<float>{2, 2}, 0, random) == 0);
  int ones = 0;
  constexpr int draws = 4000;
  for (int i = 0; i < draws; ++i) {
    const std::int64_t id = sample(logits, 1, random);
    REQUIRE(id <= 1);
    ones += static_cast<int>(id);
  }
  CHECK(std::abs(ones - draws * 3 / 4) <= 5 * 28);  // five standard deviations: sqrt(4000 * 3 / 16) = 27.4
  ones = 0;
  for (int i = 0; i < draws; ++i) ones += static_cast<int>(sample(logits, 0.5, random));
  CHECK(std::abs(ones - draws * 9 / 10) <= 5 * 19);
}
