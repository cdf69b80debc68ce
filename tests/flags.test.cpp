// tests/flags.test.cpp -- the same bytes under every floating-point environment, for one set of compiler options.
// SPDX-License-Identifier: Apache-2.0
//
// One program per set of options (flags.cmake): only flags.body.cpp is compiled with them, so that this file runs on
// any machine, and none of them reaches the linker, where -ffast-math would switch on flush-to-zero for the whole
// program.
#include <catch2/catch_test_macros.hpp>
#include <cfenv>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#if defined(__x86_64__) || defined(__i386__)
#include <xmmintrin.h>
#endif

#include "flags.body.hpp"
#include "support/vectors.hpp"

namespace {

using namespace mxfp4::test;

/// Of what flags.body.cpp computes where no peer was recorded; the programs of all options and both compilers share it.
constexpr std::uint64_t expected_digest = 0xA52F9484352B61B1u;

const std::uint8_t* load_cached(const char* name) {
  static std::map<std::string, std::vector<std::uint8_t>> files;
  const auto [at, fresh] = files.try_emplace(name);
  if (fresh) at->second = load_bytes(name);
  return at->second.data();
}

void check_everything() {
  const flags_report report = run_everything(load_cached);
  // the environment is the default again before Catch2 sees a number
  std::fesetround(FE_TONEAREST);
#if defined(__x86_64__) || defined(__i386__)
  _mm_setcsr(0x1F80);
#endif
  CAPTURE(report.first_wrong);
  CHECK(report.wrong_recipes == 0);
  CHECK(report.wrong_decodes == 0);
  CHECK(report.digest == expected_digest);
}

}  // namespace

TEST_CASE("the bytes do not depend on the floating-point environment", "[flags]") {
  run_everything(load_cached);  // reads the files under the default environment

  SECTION("default") { check_everything(); }
  SECTION("upward") {
    REQUIRE(std::fesetround(FE_UPWARD) == 0);
    check_everything();
  }
  SECTION("downward") {
    REQUIRE(std::fesetround(FE_DOWNWARD) == 0);
    check_everything();
  }
  SECTION("toward zero") {
    REQUIRE(std::fesetround(FE_TOWARDZERO) == 0);
    check_everything();
  }
#if defined(__x86_64__) || defined(__i386__)
  SECTION("flush to zero, denormals are zero") {
    _mm_setcsr(_mm_getcsr() | 0x8040);  // FTZ, DAZ
    volatile float smallest = 0x1p-126f, half = 0.5f;
    const volatile float flushed = smallest * half;
    const bool really = flushed == 0;
    check_everything();
    CHECK(really);
  }
  SECTION("flush to zero and upward") {
    _mm_setcsr((_mm_getcsr() & ~0x6000u) | 0x8040 | 0x4000);
    check_everything();
  }
#endif
}
