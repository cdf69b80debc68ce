// tests/readme.recipes.test.cpp -- the README's table of recipes says what `mxfp4 recipes` and the library say.
// SPDX-License-Identifier: Apache-2.0
//
// The README is shorter: several recipes share a row, and a cell with one value stands for all of them. Which words of
// the program a cell stands for is written down below; a cell without an entry fails.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "cli.support.hpp"
#include "support/normal.hpp"

namespace {

using namespace mxfp4;
using namespace mxfp4::test;
using Catch::Matchers::StartsWith;
using words = std::vector<std::string>;

std::string trimmed(const std::string& text) {
  const std::size_t first = text.find_first_not_of(' '), last = text.find_last_not_of(' ');
  return first == std::string::npos ? "" : text.substr(first, last - first + 1);
}

words split(const std::string& text, char at) {
  words parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, at);) parts.push_back(trimmed(part));
  return parts;
}

/// "`a_b` `_c`" is a_b and a_c: a name that begins with _ takes the place of as many words at the end of the first.
words names_of(const std::string& cell) {
  words names;
  for (std::size_t at = cell.find('`'); at != std::string::npos; at = cell.find('`', at)) {
    const std::size_t end = cell.find('`', at + 1);
    std::string name = cell.substr(at + 1, end - at - 1);
    if (name.front() == '_') {
      std::string stem = names.front();
      for (const char c : name)
        if (c == '_') stem.resize(stem.rfind('_'));
      name = stem + name;
    }
    names.push_back(name);
    at = end + 1;
  }
  return names;
}

/// The value of recipe i of a row: one for each, or one for all.
std::string value(const words& cell, std::size_t i, std::size_t recipes) {
  REQUIRE((cell.size() == 1 || cell.size() == recipes));
  return cell[cell.size() == 1 ? 0 : i];
}

struct row {
  std::string name, scale, ties, zero, error;
};

std::vector<row> table() {
  std::vector<row> rows;
  std::istringstream readme(read_text(MXFP4_README));
  std::string line;
  while (std::getline(readme, line) && line.rfind("| recipe | equals, bit for bit | scale | ties | -0 |", 0) != 0) {
  }
  std::getline(readme, line);  // |---|
  while (std::getline(readme, line) && line.rfind("| ", 0) == 0) {
    const words cells = split(line, '|');
    REQUIRE(cells.size() == 7);  // with the empty one in front of the first bar
    const words names = names_of(cells[1]);
    const words scales = split(cells[3], cells[3].find(';') != std::string::npos ? ';' : names.size() > 2 ? ',' : ';');
    for (std::size_t i = 0; i < names.size(); ++i)
      rows.push_back({names[i], value(scales, i, names.size()), value(split(cells[4], ','), i, names.size()), cells[5],
                      value(split(cells[6], ' '), i, names.size())});
  }
  return rows;
}

const std::map<std::string, std::string> scales{
    {"2^(floor(log2 amax) - 2)", "floor(amax) / 4"},
    {"floor", "floor(amax) / 4"},
    {"amax / 4 down", "floor(amax) / 4"},
    {"ceil", "ceil(amax) / 4"},
    {"up from 1.75", "floor(amax, rounded up to a power of two from 1.75 * 2^k on) / 4"},
    {"amax / 6 up", "ceil(amax / 6)"},
    {"up", "ceil(amax / 6)"},
    {"floor of a float log2", "floor(amax) / 4, up to 44 ulps below a power of two count as it"},
    {"ceil of a float log2(amax / 6)", "ceil(amax / 6), up to 33 ulps above 1.5 * 2^k count as it"},
    {"nearest power to amax / 6", "2^round(log2(amax / 6))"},
    {"amax / 6 up, amax >= 2^-23", "ceil(max(amax, 2^-23) / 6)"},
    {"least squared error of floor - 1, floor, floor + 1", "the best of floor(amax) / 8, / 4 and / 2"}};
const std::map<std::string, std::string> ties{
    {"even", "to even"}, {"away", "away from zero"}, {"toward zero", "toward zero"}};
const std::map<std::string, std::string> zeros{
    {"kept", "kept"},
    {"dropped", "always +0"},
    {"every zero is -0", "+0 and -0 are -0"},
    {"x / s nonzero", "-0 is +0; what rounds to zero keeps its sign unless x / s underflows"}};

/// What the program says for the README's word.
std::string meaning(const std::map<std::string, std::string>& of, const std::string& cell) {
  CAPTURE(cell);
  REQUIRE(of.count(cell) == 1);
  return of.at(cell);
}

}  // namespace

TEST_CASE("README: the table of recipes", "[readme]") {
  const outcome program = run({MXFP4_PROGRAM, "recipes", "--json"});
  REQUIRE(program.code == 0);
  const nlohmann::json recipes = nlohmann::json::parse(program.out)["recipes"];
  std::map<std::string, nlohmann::json> known;
  for (const auto& recipe : recipes) known[recipe["name"]] = recipe;
  REQUIRE(known.size() == recipe_count);

  const std::vector<row> rows = table();
  CHECK(rows.size() == recipe_count);
  std::map<std::string, int> seen;
  for (const row& r : rows) {
    CAPTURE(r.name);
    recipe_id id{};
    REQUIRE(find_recipe(r.name.c_str(), id));
    CHECK(++seen[r.name] == 1);
    REQUIRE(known.count(r.name) == 1);
    const nlohmann::json& said = known[r.name];
    // longer words of the program are exceptions at the ends of the range
    const std::string scale = said["scale"];
    CHECK_THAT(scale, StartsWith(meaning(scales, r.scale)));
    if (meaning(scales, r.scale) == "floor(amax) / 4" || meaning(scales, r.scale) == "ceil(amax / 6)")
      CHECK(scale.find("ulps") == std::string::npos);
    CHECK(said["ties"] == meaning(ties, r.ties));
    CHECK(said["zero"] == meaning(zeros, r.zero));
    CHECK(std::abs(relative_error_of_normal_weights(id) - std::stod(r.error)) < 0.0005);
  }
}
