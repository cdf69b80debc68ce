// tools/mxfp4/completion.cpp -- mxfp4 completion: what a shell completes, made of what the commands declare.
// SPDX-License-Identifier: Apache-2.0
#include "command.hpp"
#include "report.hpp"

namespace mxfp4::tools {

namespace {

using commands = std::vector<described_command>;

/// What a value is completed with when it is none of a few words.
enum class completed_by { nothing, files, folders };

[[nodiscard]] completed_by completion_of(const described_option& o) {
  if (o.value == "DIR") return completed_by::folders;
  for (const char* const part : {"FILE", "DIR", "PATH"})
    if (o.value.find(part) != std::string::npos) return completed_by::files;
  return completed_by::nothing;
}

/// Does it take several words with commas between them?
[[nodiscard]] bool is_list(const described_option& o) { return o.value.find(",...") != std::string::npos; }

[[nodiscard]] std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

/// The text with each of these characters behind `before`.
[[nodiscard]] std::string escaped(const std::string& text, const std::string& characters, const std::string& before) {
  std::string out;
  for (const char c : text) out += characters.find(c) == std::string::npos ? std::string(1, c) : before + c;
  return out;
}

/// A word of POSIX's shells.
[[nodiscard]] std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? "'\\''" : std::string(1, c);
  return out + "'";
}

[[nodiscard]] std::vector<std::string> names_of(const described_command& command, bool of_arguments) {
  std::vector<std::string> names;
  for (const described_option& o : command.options)
    if (o.argument == of_arguments) names.insert(names.end(), o.names.begin(), o.names.end());
  return names;
}

// ---- bash -----------------------------------------------------------------------------------------------------------

[[nodiscard]] std::string bash_script(const commands& all) {
  std::string values, options, arguments, names;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string name = i == 0 ? "" : all[i].name;
    options +=
        "    " + (i == 0 ? std::string("''") : name) + ") options='" + joined(names_of(all[i], false)) + "' ;;\n";
    if (i > 0) names += (names.empty() ? "" : " ") + name;
    for (const described_option& o : all[i].options) {
      if (o.argument && !o.words.empty()) arguments += "    " + name + ") words='" + joined(o.words) + "' ;;\n";
      if (o.argument || o.value.empty()) continue;
      const completed_by by = completion_of(o);
      std::string patterns;
      for (const std::string& n : o.names) patterns += (patterns.empty() ? "" : "|") + name + ":" + n;
      values += "    " + patterns + ") " +
                (!o.words.empty()              ? "words='" + joined(o.words) + (is_list(o) ? "' list=1" : "'")
                 : by == completed_by::folders ? "compopt -o dirnames +o default 2>/dev/null; return"
                 : by == completed_by::files   ? "return"
                                               : "compopt +o default 2>/dev/null; return") +
                " ;;\n";
    }
  }
  return "# Completion of mxfp4 for bash, written by: mxfp4 completion bash\n"
         "_mxfp4() {\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command= words= options= "
         "list= i\n"
         "  COMPREPLY=()\n"
         "  if [[ $current == = ]]; then current=   # --type=f is three words to bash\n"
         "  elif [[ $before == = ]]; then before=${COMP_WORDS[COMP_CWORD - 2]}; fi\n"
         "  for ((i = 1; i < COMP_CWORD; ++i)); do\n"
         "    if [[ ${COMP_WORDS[i]} != -* ]]; then command=${COMP_WORDS[i]}; break; fi\n"
         "  done\n"
         "  case $command:$before in\n" +
         values +
         "  esac\n"
         "  case $command in\n" +
         options +
         "  esac\n"
         "  if [[ -z $words && $current == -* ]]; then words=$options\n"
         "  elif [[ -z $words && -z $command ]]; then words='" +
         names +
         "'\n"
         "  elif [[ -z $words ]]; then\n"
         "    case $command in\n" +
         arguments +
         "    *) return ;;   # files, by -o default\n"
         "    esac\n"
         "  fi\n"
         "  local rest=$current\n"
         "  [[ -z $list ]] || rest=${current##*,}   # the last one\n"
         "  local IFS=$' \\t\\n'\n"
         "  COMPREPLY=($(compgen -P \"${current%\"$rest\"}\" -W \"$words\" -- \"$rest\"))\n"
         "}\n"
         "complete -o default -F _mxfp4 mxfp4\n";
}

// ---- zsh ------------------------------------------------------------------------------------------------------------

[[nodiscard]] std::string zsh_action(const described_option& o) {
  const completed_by by = completion_of(o);
  if (!o.words.empty()) {
    const std::string words = "(" + joined(o.words) + ")";
    return is_list(o) ? "_sequence compadd - " + joined(o.words) : words;
  }
  return by == completed_by::folders ? "_files -/" : by == completed_by::files ? "_files" : " ";
}

[[nodiscard]] std::string zsh_options(const described_command& command, const std::string& indent) {
  std::string text;
  for (const described_option& o : command.options) {
    const std::string help = "[" + escaped(o.help, "[]\\:", "\\") + "]";
    const std::string value = o.value.empty() ? "" : ":" + escaped(o.value, ":\\", "\\") + ":" + zsh_action(o);
    if (o.argument) {
      text += " \\\n" + indent + quoted(std::string(o.required ? ":" : "::") + o.names[0] + ":" + zsh_action(o));
      continue;
    }
    for (const std::string& name : o.names)
      text += " \\\n" + indent +
              quoted((o.repeated ? "*" : "") + name + (o.value.empty() || !name.starts_with("--") ? "" : "=") + help +
                     value);
  }
  return text;
}

[[nodiscard]] std::string zsh_script(const commands& all) {
  std::string list, cases;
  for (std::size_t i = 1; i < all.size(); ++i) {
    list += "    " + quoted(escaped(all[i].name, ":", "\\") + ":" + escaped(all[i].description, ":", "\\")) + "\n";
    cases += "        " + all[i].name + ")\n          _arguments -S" + zsh_options(all[i], "            ") +
             "\n          ;;\n";
  }
  return "#compdef mxfp4\n"
         "# Completion of mxfp4 for zsh, written by: mxfp4 completion zsh\n"
         "_mxfp4() {\n"
         "  local curcontext=$curcontext state line\n"
         "  local -a commands=(\n" +
         list +
         "  )\n"
         "  _arguments -C" +
         zsh_options(all[0], "    ") +
         " \\\n    '1: :->command' '*:: :->arguments' && return\n"
         "  case $state in\n"
         "    command) _describe -t commands command commands ;;\n"
         "    arguments)\n"
         "      case $words[1] in\n" +
         cases +
         "      esac\n"
         "      ;;\n"
         "  esac\n"
         "}\n"
         "if [[ $funcstack[1] == _mxfp4 ]]; then _mxfp4 \"$@\"; else compdef _mxfp4 mxfp4; fi\n";
}

// ---- fish -----------------------------------------------------------------------------------------------------------

[[nodiscard]] std::string fish_quoted(const std::string& text) { return "'" + escaped(text, "'\\", "\\") + "'"; }

[[nodiscard]] std::string fish_script(const commands& all) {
  std::string text = "# Completion of mxfp4 for fish, written by: mxfp4 completion fish\n";
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string where =
        i == 0 ? "__fish_use_subcommand" : fish_quoted("__fish_seen_subcommand_from " + all[i].name);
    const std::string line = "complete -c mxfp4 -n " + where;
    if (i > 0)
      text += "complete -c mxfp4 -n __fish_use_subcommand -f -a " + all[i].name + " -d " +
              fish_quoted(all[i].description) + "\n";
    for (const described_option& o : all[i].options) {
      const std::string words = o.words.empty() ? "" : " -a " + fish_quoted(joined(o.words));
      if (o.argument) {
        if (!words.empty()) text += line + " -f" + words + "\n";
        continue;
      }
      text += line;
      for (const std::string& name : o.names)
        text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      if (!o.value.empty()) text += completion_of(o) == completed_by::nothing || !words.empty() ? " -x" : " -r -F";
      text += words + " -d " + fish_quoted(o.help) + "\n";
    }
  }
  return text;
}

}  // namespace

void add_completion(program& app) {
  command_line command =
      app.add_command("completion", "Print a script by which a shell completes commands and options");
  const auto shell = std::make_shared<std::string>();
  command.add_option("SHELL", *shell, "Whose script").required().one_of({"bash", "zsh", "fish"});
  command.footer(
      "bash  source <(mxfp4 completion bash)                                     in ~/.bashrc\n"
      "zsh   source <(mxfp4 completion zsh)                                      in ~/.zshrc, after compinit\n"
      "fish  mxfp4 completion fish > ~/.config/fish/completions/mxfp4.fish\n"
      "cmake --install and the packages put them where the shells look.");
  command.on_run([&app, shell] {
    const commands all = app.describe();
    print(*shell == "bash" ? bash_script(all) : *shell == "zsh" ? zsh_script(all) : fish_script(all));
  });
}

}  // namespace mxfp4::tools
