// tests/model.weights.test.cpp -- matrices of MXFP4 that are read piece by piece are those that are read whole.
// SPDX-License-Identifier: Apache-2.0
#include "model/weights.hpp"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint.support.hpp"
#include "model/token_rows.hpp"
#include "support/backward_executor.hpp"
#include "support/matrix.hpp"

namespace {

using namespace mxfp4::checkpoint;
using namespace mxfp4::io;
using namespace mxfp4::model;
using namespace mxfp4::test;

constexpr std::int64_t rows = 56, cols = 16384;  // 16 rows a piece of two matrices, 16 of one; the last has 8

/// @param low, high  of each byte.
tensor random_tensor(const std::string& name, dtype type, std::vector<std::int64_t> shape, int low, int high,
                     splitmix& random) {
  std::string data(tensor_bytes(type, shape).value(), '\0');
  for (char& c : data) c = static_cast<char>(random.in(low, high));
  return {{name, type, std::move(shape)}, data};
}

/// The products of two tokens, with float and with int8 activations.
std::vector<float> products(const linear& w) {
  token_rows x(2, w.cols()), y(2, w.rows());
  for (std::size_t i = 0; i < x.data.size(); ++i) x.data[i] = static_cast<float>(i % 11) - 5.0f;
  std::vector<float> all;
  for (const activation_type type : {activation_type::f32, activation_type::int8_residual2}) {
    w.multiply(std::as_const(x).view(), y.view(), {type, {}});
    all.insert(all.end(), y.data.begin(), y.data.end());
  }
  return all;
}

}  // namespace

TEST_CASE("weights: MXFP4 that is read in pieces is MXFP4 that is read whole, in memory of its own or of another",
          "[model]") {
  splitmix random(3);
  const scratch_folder folder;
  const auto codes = [&](const char* name, std::vector<std::int64_t> shape) {
    return random_tensor(name, dtype::u8, std::move(shape), 0, 255, random);
  };
  const auto scales = [&](const char* name, std::vector<std::int64_t> shape) {
    return random_tensor(name, dtype::u8, std::move(shape), 118, 122, random);
  };
  const auto bias = [&](const char* name, std::vector<std::int64_t> shape) {
    return random_tensor(name, dtype::bf16, std::move(shape), 0, 60, random);
  };
  const checkpoint_reader checkpoint =
      checkpoint_reader::open(
          write_checkpoint(
              folder / "m",
              {{"model.safetensors",
                {codes("stack_blocks", {3, 2 * rows, cols / 32, 16}), scales("stack_scales", {3, 2 * rows, cols / 32}),
                 bias("stack_bias", {3, 2 * rows}), codes("one.weight_packed", {rows, cols / 2}),
                 scales("one.weight_scale", {rows, cols / 32}), bias("one.bias", {rows})}}}))
          .value();

  backward_executor backward;
  const linear whole = linear::load(checkpoint, "one", rows, cols, true);
  linear one;
  for (int again = 0; again < 2; ++again) {
    one = linear::load_arranged(checkpoint, "one", rows, cols, true, backward, std::move(one));
    CHECK(backward.tasks == 4u * static_cast<unsigned>(again + 1));
    CHECK(products(one) == products(whole));
    CHECK(one.stored_bytes() == whole.stored_bytes());
  }
  std::vector<linear> spare;
  for (const std::int64_t index : {2, 0, 1}) {
    const stack_place place{"stack", 3, index, rows, cols, 2};
    const std::vector<linear> stack = linear::load_stack(checkpoint, place);
    spare = linear::load_stack_arranged(checkpoint, place, backward, std::move(spare));
    REQUIRE(spare.size() == 2);
    for (std::size_t part = 0; part < 2; ++part) {
      CHECK(products(spare[part]) == products(stack[part]));
      CHECK(spare[part].stored_bytes() == stack[part].stored_bytes());
    }
    CHECK(products(spare[0]) != products(spare[1]));
  }
  // A copy has the same memory: it is not written over.
  const linear copy = spare[0];
  const std::vector<float> before = products(copy);
  spare = linear::load_stack_arranged(checkpoint, {"stack", 3, 0, rows, cols, 2}, backward, std::move(spare));
  CHECK(products(copy) == before);
  CHECK(products(spare[0]) != before);
  // Nor is what has another shape.
  one = linear::load_arranged(checkpoint, "one", rows, cols, true, backward, linear::of_mxfp4(1, 32, {}, {}));
  CHECK(products(one) == products(whole));
}

TEST_CASE("weights: a token alone has the sums of two, in tasks of 32 rows and in larger ones", "[model]") {
  splitmix random(5);
  const scratch_folder folder;
  constexpr std::int64_t few = 75, many = 5 * 8192 + 13, narrow = 5;  // columns: an odd number
  const auto weights = [&](const char* name, std::int64_t count, dtype type) {
    return random_tensor(name, type, {count, narrow}, 0, 0x3F, random);  // bytes of small positive numbers
  };
  const checkpoint_reader checkpoint =
      checkpoint_reader::open(write_checkpoint(folder / "m", {{"model.safetensors",
                                                               {weights("few_bf16.weight", few, dtype::bf16),
                                                                weights("many_bf16.weight", many, dtype::bf16),
                                                                weights("many_f32.weight", many, dtype::f32)}}}))
          .value();
  token_rows x(2, narrow);
  for (std::size_t i = 0; i < x.data.size(); ++i) x.data[i] = static_cast<float>(i % narrow) - 1.75f;
  for (const auto& [name, count] : {std::pair("few_bf16", few), std::pair("many_bf16", many), {"many_f32", many}})
    for (const bool arranged : {false, true}) {
      CAPTURE(name, arranged);
      linear w = linear::load(checkpoint, name, count, narrow);
      if (arranged) w.arrange();
      token_rows one(1, count), two(2, count);
      backward_executor backward;
      const product_options options{activation_type::f32, backward};
      w.multiply(std::as_const(x).rows(0, 1), one.view(), options);
      w.multiply(std::as_const(x).view(), two.view(), options);
      CHECK(std::ranges::equal(one.data, std::span(two.data).first(one.data.size())));
      CHECK(std::ranges::equal(one.data, std::span(two.data).last(one.data.size())));
      CHECK(std::ranges::count(one.data, 0.0f) < count / 10);
    }
}
