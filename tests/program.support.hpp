// tests/program.support.hpp -- the program mxfp4 as the tests run it.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cli.support.hpp"
#include "support/sanitized.hpp"

namespace mxfp4::test {

inline outcome mxfp4_run(std::vector<std::string> arguments, const limits& limit = {},
                         const std::vector<std::string>& environment = {}) {
  arguments.insert(arguments.begin(), MXFP4_PROGRAM);
  return run(std::move(arguments), limit, environment);
}

/// Whether a bound on the program's memory is a bound on what it asks for itself.
[[nodiscard]] inline bool memory_is_its_own() {
#if defined(MXFP4_TEST_ASAN)
  return false;
#else
  return !read_text(MXFP4_PROGRAM).starts_with("#!");  // a script calls an emulator
#endif
}
inline void require_own_memory() {
  if (!memory_is_its_own()) SKIP("the sanitizer's or the emulator's own memory is beyond the limit");
}

/// The command ends well.
inline void done(const std::vector<std::string>& arguments) {
  CAPTURE(arguments);
  const outcome o = mxfp4_run(arguments);
  INFO(o.err);
  REQUIRE(o.code == 0);
}

/// What a command prints with --json, and nothing else.
inline nlohmann::json mxfp4_json(std::vector<std::string> arguments) {
  arguments.emplace_back("--json");
  const outcome o = mxfp4_run(std::move(arguments));
  INFO(o.err);
  REQUIRE(o.code == 0);
  CHECK(o.err == "");
  return nlohmann::json::parse(o.out);
}

}  // namespace mxfp4::test
