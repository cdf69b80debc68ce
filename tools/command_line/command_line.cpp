// tools/command_line/command_line.cpp -- see command_line.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "command_line.hpp"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <utility>

#include "io/shown.hpp"
#include "terminal.hpp"

namespace mxfp4::tools {

/// What the values of an option may be: the parser has no place for it.
using option_words = std::map<const CLI::Option*, std::vector<std::string>>;

struct option::impl {
  CLI::Option* parsed;
  std::shared_ptr<option_words> words;
};

struct command_line::impl {
  CLI::App* app;
  std::shared_ptr<option_words> words;
  std::shared_ptr<CLI::App> owner = {};  // the program's; its commands are owned by it
};

namespace {

template <class Value>
[[nodiscard]] option made_option(const command_line::impl& to, const std::string& name, Value& value,
                                 const std::string& help) {
  return option(option::impl{to.app->add_option(name, value, help), to.words});
}

}  // namespace

option::option(const impl& made) : impl_(std::make_shared<impl>(made)) {}

option option::required() const {
  impl_->parsed->required();
  return *this;
}

option option::type_name(const std::string& name) const {
  impl_->parsed->type_name(name);
  return *this;
}

option option::show_default() const {
  impl_->parsed->capture_default_str();
  return *this;
}

option option::show_default_as(const std::string& text) const {
  impl_->parsed->default_str(text);
  return *this;
}

option option::group(const std::string& title) const {
  impl_->parsed->group(title);
  return *this;
}

option option::delimiter(char c) const {
  impl_->parsed->delimiter(c);
  return *this;
}

option option::one_value() const {
  impl_->parsed->allow_extra_args(false);
  return *this;
}

option option::one_of(const std::vector<std::string>& words) const {
  std::string names;
  for (const std::string& word : words) names += (names.empty() ? "" : "|") + word;
  return check([words](const std::string& text) {
           if (std::find(words.begin(), words.end(), text) != words.end()) return std::string();
           std::string expected;
           for (const std::string& word : words) expected += (expected.empty() ? "" : ", ") + word;
           return "is '" + text + "', expected one of " + expected;
         })
      .completes(words)
      .type_name(names)
      .show_default();
}

namespace {

[[nodiscard]] CLI::Validator whole_number(std::int64_t least, std::int64_t most, const std::string& in_help) {
  return CLI::Validator(
      [least, most](const std::string& text) {
        std::int64_t value = 0;
        if (CLI::detail::lexical_cast(text, value) && value >= least && value <= most) return std::string();
        return "is '" + text + "', expected a whole number from " + std::to_string(least) + " to " +
               std::to_string(most);
      },
      in_help);
}

}  // namespace

option option::range(std::int64_t least, std::int64_t most) const {
  impl_->parsed->check(whole_number(least, most, ""));
  return *this;
}

option option::range_in_help(std::int64_t least, std::int64_t most) const {
  impl_->parsed->check(
      whole_number(least, most, "INT in [" + std::to_string(least) + " - " + std::to_string(most) + "]"));
  return *this;
}

// Unlike CLI::Range it refuses NaN, which is neither below nor above.
option option::number(double least, double most) const {
  return check([least, most](const std::string& text) {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && value >= least && value <= most) return std::string();
    return "is '" + text + "', expected a number from " + CLI::detail::to_string(least) + " to " +
           CLI::detail::to_string(most);
  });
}

option option::size() const {
  impl_->parsed->transform(CLI::Validator(
      [](std::string& text) {
        const std::string given = text;
        std::uint64_t bytes = 0;
        std::string problem;
        try {
          problem = CLI::AsSizeValue(true)(text);  // which throws what it cannot take
        } catch (const CLI::ValidationError& error) {
          problem = error.what();
        }
        if (problem.empty() && CLI::detail::lexical_cast(text, bytes) && bytes > 0) return std::string();
        return "is '" + given + "', expected bytes, at least one, or a number with kB, MB, GB, ...";
      },
      ""));
  return type_name("SIZE");
}

option option::check(const std::function<std::string(const std::string&)>& problem_of) const {
  impl_->parsed->check(CLI::Validator(problem_of, ""));
  return *this;
}

option option::completes(const std::vector<std::string>& words) const {
  (*impl_->words)[impl_->parsed] = words;
  return *this;
}

option option::needs(const option& other) const {
  impl_->parsed->needs(other.impl_->parsed);
  return *this;
}

option option::excludes(const option& other) const {
  impl_->parsed->excludes(other.impl_->parsed);
  return *this;
}

bool option::given() const { return impl_->parsed->count() > 0; }

std::string option::name() const { return impl_->parsed->get_name(); }

command_line::command_line(const impl& made) : impl_(std::make_shared<impl>(made)) {}

option command_line::add_option(const std::string& name, std::string& value, const std::string& help) {
  return made_option(*impl_, name, value, help);
}

option command_line::add_option(const std::string& name, std::vector<std::string>& values, const std::string& help) {
  return made_option(*impl_, name, values, help);
}

option command_line::add_option(const std::string& name, int& value, const std::string& help) {
  return made_option(*impl_, name, value, help);
}

option command_line::add_option(const std::string& name, std::int64_t& value, const std::string& help) {
  return made_option(*impl_, name, value, help);
}

option command_line::add_option(const std::string& name, std::uint64_t& value, const std::string& help) {
  return made_option(*impl_, name, value, help);
}

option command_line::add_option(const std::string& name, double& value, const std::string& help) {
  return made_option(*impl_, name, value, help);
}

option command_line::add_flag(const std::string& name, bool& value, const std::string& help) {
  return option(option::impl{impl_->app->add_flag(name, value, help), impl_->words});
}

void command_line::footer(const std::string& text) { impl_->app->footer(text); }

void command_line::on_run(const std::function<void()>& run) { impl_->app->callback(run); }

namespace {

[[nodiscard]] std::shared_ptr<CLI::App> made_app(const std::string& name, const std::string& description,
                                                 const std::function<std::string()>& version) {
  auto app = std::make_shared<CLI::App>(description);
  app->name(name);
  if (version)
    app->set_version_flag(
        "--version", [name, version] { return name + " " + version(); }, "Print the version and exit");
  app->set_help_flag("-h,--help", "Print this help and exit");
  app->get_formatter()->column_width(40);
  return app;
}

}  // namespace

program::program(const std::string& name, const std::string& description, const std::function<std::string()>& version)
    : command_line([&] {
        const std::shared_ptr<CLI::App> app = made_app(name, description, version);
        return impl{app.get(), std::make_shared<option_words>(), app};
      }()) {}

command_line program::add_command(const std::string& name, const std::string& description) {
  impl_->app->require_subcommand(1);
  CLI::App* const app = impl_->app->add_subcommand(name, description);
  app->footer("");  // not the program's own
  return command_line({app, impl_->words});
}

namespace {

[[nodiscard]] described_option described(const CLI::Option& o, const option_words& words) {
  described_option d;
  d.argument = o.get_positional();
  if (d.argument) d.names.push_back(o.get_name());
  for (const std::string& name : o.get_snames()) d.names.push_back("-" + name);
  for (const std::string& name : o.get_lnames()) d.names.push_back("--" + name);
  if (o.get_expected_max() > 0) d.value = o.get_type_name();
  d.value.erase(std::min(d.value.find(':'), d.value.size()));  // the range of a number
  d.help = o.get_description();
  d.required = o.get_required();
  d.repeated = o.get_items_expected_max() > 1;
  if (const auto found = words.find(&o); found != words.end()) d.words = found->second;
  return d;
}

}  // namespace

std::vector<described_command> program::describe() const {
  std::vector<const CLI::App*> apps = {impl_->app};
  for (const CLI::App* command : std::as_const(*impl_->app).get_subcommands([](const CLI::App*) { return true; }))
    apps.push_back(command);
  std::vector<described_command> commands;
  for (const CLI::App* app : apps) {
    described_command command{app->get_name(), app->get_description(), app->get_footer(), {}};
    for (const CLI::Option* o : app->get_options()) command.options.push_back(described(*o, *impl_->words));
    commands.push_back(std::move(command));
  }
  return commands;
}

namespace {

/// The message without what the parser calls the kind of fault.
[[nodiscard]] std::string sentence_of(const CLI::App& app, const CLI::ParseError& error, int argc,
                                      const char* const* argv) {
  const std::string what = error.what();
  const auto behind = [&what](const char* words) {
    const std::size_t at = what.find(words);
    return at == std::string::npos ? what : what.substr(at + std::string(words).size());
  };
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && app.get_subcommands().empty()) {
    std::string names;
    for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
      names += (names.empty() ? "" : ", ") + command->get_name();
    return (argc > 1 ? "'" + std::string(argv[1]) + "' is no command" : std::string("no command is given")) +
           ", expected one of " + names;
  }
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) return "not expected: " + behind(": ");
  if (dynamic_cast<const CLI::ConversionError*>(&error) != nullptr) {
    const std::string given = behind("Could not convert: ");
    const std::size_t at = given.find(" = ");
    return at == std::string::npos ? given : given.substr(0, at) + " takes no '" + given.substr(at + 3) + "'";
  }
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr)
    return what.substr(0, what.find(':')) + (what.find(" missing") != std::string::npos
                                                 ? " has no value, expected one"
                                                 : " is given more than once, expected once");
  return what;
}

}  // namespace

int program::run(int argc, const char* const* argv) {
  const auto refuse = [this](const std::string& sentence) {
    const std::string name = impl_->app->get_name();
    std::fprintf(stderr, "%s %s\nsee %s --help\n", coloured(name + ":", colour::error, STDERR_FILENO).c_str(),
                 io::shown(sentence).c_str(), name.c_str());
    return bad_usage;
  };
  try {
    impl_->app->parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return impl_->app->exit(error);  // help, version
    return refuse(sentence_of(*impl_->app, error, argc, argv));
  } catch (const usage_error& error) {
    return refuse(error.what());
  }
}

}  // namespace mxfp4::tools
