// tools/mxfp4/man.cpp -- mxfp4 man: the manual page, of the text that --help has.
// SPDX-License-Identifier: Apache-2.0
#include "command.hpp"
#include "mxfp4/version.hpp"
#include "report.hpp"

namespace mxfp4::tools {

namespace {

/// Text as roff has it: no line of it is a request, a minus is one and not a hyphen.
[[nodiscard]] std::string roff(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if ((c == '.' || c == '\'') && (i == 0 || text[i - 1] == '\n')) out += "\\&";
    if (c == '\\') out += "\\e";
    else if (c == '-') out += "\\-";
    else if (c == '\'') out += "\\(aq";
    else if (c == '`') out += "\\(ga";
    else if (c == '^') out += "\\(ha";
    else if (c == '~') out += "\\(ti";
    else if (c == '"') out += "\\(dq";
    else out += c;
  }
  return out;
}

[[nodiscard]] std::string bold(const std::string& text) { return "\\fB" + roff(text) + "\\fP"; }
[[nodiscard]] std::string italic(const std::string& text) { return "\\fI" + roff(text) + "\\fP"; }

/// Lines that stay as they are: the footers, which are tables or short sentences.
[[nodiscard]] std::string as_it_is(const std::string& text) {
  return text.empty() ? "" : ".PP\n.nf\n" + roff(text) + "\n.fi\n";
}

[[nodiscard]] std::string man_options(const described_command& command) {
  std::string text;
  for (const described_option& o : command.options) {
    std::string names;
    for (const std::string& name : o.names)
      names += (names.empty() ? "" : ", ") + (o.argument ? italic(name) : bold(name));
    text += ".TP\n" + names + (o.argument || o.value.empty() ? "" : " " + italic(o.value)) + "\n" + roff(o.help);
    if (!o.words.empty() && o.value.find('|') == std::string::npos) {
      text += ":";
      for (std::size_t i = 0; i < o.words.size(); ++i) text += (i == 0 ? " " : ", ") + roff(o.words[i]);
    }
    text += o.required ? " (required)\n" : "\n";
  }
  return text;
}

[[nodiscard]] std::string usage_of(const described_command& command) {
  std::string text = bold("mxfp4 " + command.name);
  for (const described_option& o : command.options)
    if (o.required && !o.argument) text += " " + bold(o.names.back()) + " " + italic(o.value);
  text += " [" + italic("options") + "]";
  for (const described_option& o : command.options)
    if (o.argument) text += o.required ? " " + italic(o.names[0]) : " [" + italic(o.names[0]) + "]";
  return text + "\n";
}

[[nodiscard]] std::string man_page(const std::vector<described_command>& all) {
  const std::string version =
      std::to_string(version_major) + "." + std::to_string(version_minor) + "." + std::to_string(version_patch);
  std::string text = ".\\\" Written by: mxfp4 man\n.TH MXFP4 1 \"\" \"mxfp4 " + version +
                     "\" \"User Commands\"\n.SH NAME\nmxfp4 \\- weights to and from MXFP4\n.SH SYNOPSIS\n" +
                     bold("mxfp4") + " " + italic("command") + " [" + italic("options") + "]\n.br\n" + bold("mxfp4") +
                     " [" + bold("--help") + " | " + bold("--version") + "]\n.SH DESCRIPTION\n" +
                     roff(all[0].description) + ".\n" + man_options(all[0]) + ".SH COMMANDS\n";
  for (std::size_t i = 1; i < all.size(); ++i)
    text += ".SS " + all[i].name + "\n" + usage_of(all[i]) + ".PP\n" + roff(all[i].description) + ".\n" +
            man_options(all[i]) + as_it_is(all[i].footer);
  return text + ".SH ENVIRONMENT\n.TP\n" + bold("MXFP4_ISA") +
         "\nThe instruction set whose kernels run, in place of the best that the CPU has.\n.TP\n" + bold("NO_COLOR") +
         "\nSet and not empty: no colours on a terminal.\n.SH EXIT STATUS\n.TP\n0\nWell.\n.TP\n1\nBad input, or a file "
         "that cannot be read or written.\n.TP\n2\nBad usage.\n";
}

}  // namespace

void add_man(program& app) {
  command_line command = app.add_command("man", "Print the manual page, mxfp4(1)");
  command.footer("To read it: mxfp4 man > mxfp4.1 && man ./mxfp4.1. cmake --install and the packages bring it.");
  command.on_run([&app] { print(man_page(app.describe())); });
}

}  // namespace mxfp4::tools
