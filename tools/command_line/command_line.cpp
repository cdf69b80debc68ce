// tools/command_line/command_line.cpp -- see command_line.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "command_line.hpp"

#include <CLI/CLI.hpp>
#include <limits>

namespace mxfp4::tools {

struct option::impl {
  CLI::Option* parsed;
};

struct command_line::impl {
  CLI::App* app;
  std::shared_ptr<CLI::App> owner = {};  // the program's; its commands are owned by it
};

namespace {

template <class Value>
[[nodiscard]] option made_option(CLI::App& app, const std::string& name, Value& value, const std::string& help) {
  return option(option::impl{app.add_option(name, value, help)});
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
  impl_->parsed->check(CLI::IsMember(words).description(""));  // its own is another form of the names
  return type_name(names).show_default();
}

option option::range(std::int64_t least, std::int64_t most) const {
  impl_->parsed->check(CLI::Range(least, most).description(""));
  return *this;
}

option option::range_in_help(std::int64_t least, std::int64_t most) const {
  impl_->parsed->check(CLI::Range(least, most));
  return *this;
}

// Unlike CLI::Range it refuses NaN, which is neither below nor above.
option option::number(double least, double most) const {
  return check([least, most](const std::string& text) {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && value >= least && value <= most) return std::string();
    return "is " + text + ", expected a number from " + CLI::detail::to_string(least) + " to " +
           CLI::detail::to_string(most);
  });
}

option option::size() const {
  impl_->parsed->transform(CLI::AsSizeValue(true).description(""))
      ->check(CLI::Range(std::uint64_t{1}, std::numeric_limits<std::uint64_t>::max()).description(""));
  return type_name("SIZE");
}

option option::check(const std::function<std::string(const std::string&)>& problem_of) const {
  impl_->parsed->check(CLI::Validator(problem_of, ""));
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
  return made_option(*impl_->app, name, value, help);
}

option command_line::add_option(const std::string& name, std::vector<std::string>& values, const std::string& help) {
  return made_option(*impl_->app, name, values, help);
}

option command_line::add_option(const std::string& name, int& value, const std::string& help) {
  return made_option(*impl_->app, name, value, help);
}

option command_line::add_option(const std::string& name, std::int64_t& value, const std::string& help) {
  return made_option(*impl_->app, name, value, help);
}

option command_line::add_option(const std::string& name, std::uint64_t& value, const std::string& help) {
  return made_option(*impl_->app, name, value, help);
}

option command_line::add_option(const std::string& name, double& value, const std::string& help) {
  return made_option(*impl_->app, name, value, help);
}

option command_line::add_flag(const std::string& name, bool& value, const std::string& help) {
  return option(option::impl{impl_->app->add_flag(name, value, help)});
}

void command_line::footer(const std::string& text) { impl_->app->footer(text); }

void command_line::on_run(const std::function<void()>& run) { impl_->app->callback(run); }

namespace {

[[nodiscard]] std::shared_ptr<CLI::App> made_app(const std::string& name, const std::string& description,
                                                 const std::string& version) {
  auto app = std::make_shared<CLI::App>(description);
  app->name(name);
  if (!version.empty()) app->set_version_flag("--version", name + " " + version, "Print the version and exit");
  app->set_help_flag("-h,--help", "Print this help and exit");
  app->get_formatter()->column_width(40);
  return app;
}

}  // namespace

program::program(const std::string& name, const std::string& description, const std::string& version)
    : command_line([&] {
        const std::shared_ptr<CLI::App> app = made_app(name, description, version);
        return impl{app.get(), app};
      }()) {}

command_line program::add_command(const std::string& name, const std::string& description) {
  impl_->app->require_subcommand(1);
  CLI::App* const app = impl_->app->add_subcommand(name, description);
  app->footer("");  // not the program's own
  return command_line({app});
}

int program::run(int argc, const char* const* argv) {
  const auto refuse = [this](const CLI::Error& error) { return impl_->app->exit(error) == 0 ? 0 : bad_usage; };
  try {
    impl_->app->parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    return refuse(error);
  } catch (const usage_error& error) {
    return refuse(CLI::ValidationError(error.what()));
  }
}

}  // namespace mxfp4::tools
