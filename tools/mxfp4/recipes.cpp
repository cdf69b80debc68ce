// tools/mxfp4/recipes.cpp -- mxfp4 recipes: the recipes, their formulas, and what they lose.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "command.hpp"
#include "recipe_notes.hpp"
#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

struct recipes_options {
  bool json = false;
  void describe(command_line&) {}
};

/// "  label      text", the text wrapped at the width of a page.
[[nodiscard]] std::string paragraph(const std::string& label, const std::string& text) {
  constexpr std::size_t indent = 16, page = 100;
  std::string out, line = "  " + label + std::string(indent - 2 - label.size(), ' ');
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    if (line.size() + 1 + word.size() > page) {
      out += line + '\n';
      line = std::string(indent, ' ');
    }
    line += (line.back() == ' ' ? "" : " ") + word;
    at = end + 1;
  }
  return out + line + '\n';
}

void run(const recipes_options& options) {
  ordered_json list = ordered_json::array();
  std::string text =
      "s: the scale of a block of 32, stored as byte log2(s) + 127, at least 2^-127. amax: the largest magnitude in "
      "it.\n"
      "floor(x), ceil(x): the nearest power of two that is not larger, not smaller. A weight x becomes the code "
      "nearest to\n"
      "x / s among 0, 0.5, 1, 1.5, 2, 3, 4, 6.\n";
  for (const recipe_note& note : recipe_notes) {
    const std::string name = recipe_name(note.id);
    list.push_back({{"name", name},
                    {"peer", note.peer},
                    {"version", note.version},
                    {"recorded", note.recorded},
                    {"scale", note.scale},
                    {"ties", note.ties},
                    {"zero", note.zero},
                    {"nonfinite", note.nonfinite},
                    {"losses", note.losses}});
    text += '\n' + name + '\n' + paragraph("peer", note.peer) + paragraph("version", note.version) +
            paragraph("recorded", note.recorded) + paragraph("s", note.scale) + paragraph("ties", note.ties) +
            paragraph("sign of zero", note.zero) + paragraph("NaN, inf", note.nonfinite) +
            paragraph("losses", note.losses);
  }
  if (options.json) print(ordered_json{{"command", "recipes"}, {"recipes", list}});
  else print(text);
}

}  // namespace

option takes_recipe(const option& o) {
  const auto problem_of = [](const std::string& name) {
    recipe_id id{};
    if (find_recipe(name, id)) return std::string{};
    std::string known;
    for (const recipe_note& note : recipe_notes) known += std::string(" ") + recipe_name(note.id);
    return "'" + name + "' is not a recipe, expected one of" + known;
  };
  std::vector<std::string> names;
  for (const recipe_note& note : recipe_notes) names.emplace_back(recipe_name(note.id));
  return o.check(problem_of).completes(names).type_name("NAME");
}

void add_recipes(program& app) {
  add_command<recipes_options>(app, "recipes",
                               "List the recipes: peer, its version, formula of the scale, ties, zeros, losses", run);
}

}  // namespace mxfp4::tools
