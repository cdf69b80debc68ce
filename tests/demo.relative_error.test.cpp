// tests/demo.relative_error.test.cpp -- the demo's numbers: what N(0, 0.02) weights of expert shape lose to MXFP4.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli.support.hpp"
#include "tools/generate/exact_normal.hpp"

namespace {

using namespace mxfp4::test;
using nlohmann::json;

json quantize(const std::string& recipe, const std::string& in, const std::string& out) {
  const outcome o =
      run({MXFP4_PROGRAM, "quantize", "--json", "--recipe", recipe, "--exclude", "[.]gate[.]", in, out, "--overwrite"});
  REQUIRE(o.code == 0);
  return json::parse(o.out);
}

}  // namespace

TEST_CASE("demo: the relative errors that others publish, 0.110 to 0.116", "[demo]") {
  const scratch_folder folder;
  const std::string fp8 = folder / "fp8", bf16 = folder / "bf16";
  REQUIRE(run({MXFP4_GENERATE, fp8, "--experts", "1"}).code == 0);
  REQUIRE(run({MXFP4_GENERATE, bf16, "--experts", "1", "--format", "bf16"}).code == 0);
  struct row {
    const char* recipe;
    double error;
  };
  for (const auto& [recipe, error] : {row{"ocp", 0.114}, row{"compressed_tensors", 0.112}}) {
    CAPTURE(recipe);
    const json report = quantize(recipe, fp8, folder / "q");
    REQUIRE(report["quantized"].size() == 3);
    CHECK(report["total"]["weights"] == 3 * 1536 * 3072);
    for (const json& q : report["quantized"]) {
      CHECK(q["dtype"] == "F8_E4M3");
      CHECK(std::abs(q["relative_error"].get<double>() - error) < 0.001);
    }
    CHECK(report["total"]["lost"] == 0);
    CHECK(report["total"]["nonfinite"] == 0);
    // The same weights as BF16 give the same file, and the same sums but for the order in which they are added up:
    // measure_error promises 20 * 2^-24.
    const auto total = [](const json& r) { return r["total"]["relative_error"].get<double>(); };
    CHECK(std::abs(total(quantize(recipe, bf16, folder / "q_bf16")) / total(report) - 1) <= 20 * 0x1p-24);
    CHECK(read_text(folder / "q") == read_text(folder / "q_bf16"));
  }
}

TEST_CASE("demo: the same bytes on every machine", "[demo]") {
  mxfp4::tools::random_words words(1234567);  // the published first words of splitmix64 for this seed
  CHECK(words() == 6457827717110365317u);
  CHECK(words() == 3203168211198807973u);
  CHECK(words() == 9817491932198370423u);
}

TEST_CASE("demo: the normal numbers are normal", "[demo]") {
  mxfp4::tools::exact_normal normal(42);
  constexpr int n = 1 << 20;
  double sum = 0, squares = 0, cubes = 0, fourths = 0;
  int beyond[4] = {};  // |x| above 0.5, 1, 2, 3
  for (int i = 0; i < n; ++i) {
    const double x = static_cast<double>(normal()) / 0x1p32;
    sum += x;
    squares += x * x;
    cubes += x * x * x;
    fourths += x * x * x * x;
    const double cuts[4] = {0.5, 1, 2, 3};
    for (int c = 0; c < 4; ++c) beyond[c] += std::abs(x) > cuts[c] ? 1 : 0;
  }
  // Within five standard deviations of the estimate.
  const double unit = 5 / std::sqrt(double{n});
  CHECK(std::abs(sum / n) < unit);
  CHECK(std::abs(squares / n - 1) < unit * std::sqrt(2.0));
  CHECK(std::abs(cubes / n) < unit * std::sqrt(15.0));
  CHECK(std::abs(fourths / n - 3) < unit * std::sqrt(96.0));
  const double tails[4] = {0.617075077451974, 0.317310507862914, 0.045500263896358, 0.002699796063260};
  for (int c = 0; c < 4; ++c) {
    CAPTURE(c);
    CHECK(std::abs(beyond[c] / double{n} - tails[c]) < unit * std::sqrt(tails[c] * (1 - tails[c])));
  }
}
