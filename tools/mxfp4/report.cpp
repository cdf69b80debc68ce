// tools/mxfp4/report.cpp -- see report.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "report.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "io/shown.hpp"
#include "mxfp4/checkpoint/reader.hpp"
#include "terminal.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

/// A number through printf's format.
template <class... Numbers>
[[nodiscard]] std::string formatted(const char* format, Numbers... numbers) {
  char text[64];
  const int size = std::snprintf(text, sizeof text, format, numbers...);
  return {text, static_cast<std::size_t>(std::clamp(size, 0, static_cast<int>(sizeof text) - 1))};
}

[[nodiscard]] std::FILE*& report_stream() {
  static std::FILE* stream = stdout;
  return stream;
}

/// Columns that a terminal uses for UTF-8 text: one a character, which is right for all but wide scripts.
[[nodiscard]] std::size_t width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u; }));
}

}  // namespace

std::string table::text() const {
  std::vector<std::size_t> widths;
  std::vector<std::string> titles;
  for (const column& c : columns_) {
    widths.push_back(width(c.title));
    titles.push_back(c.title);
  }
  for (const auto& row : rows_)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  std::string text;
  const auto add_line = [&](const std::vector<std::string>& cells) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string padding(widths[i] - width(cells[i]), ' ');
      line += i == 0 ? "" : "  ";
      line += columns_[i].side == align::left ? cells[i] + padding : padding + cells[i];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  };
  add_line(titles);
  for (const auto& row : rows_) add_line(row);
  return text;
}

std::string printable(const std::string& name) {
  const std::string text = quote_name(name);
  return text.substr(1, text.size() - 2);
}

std::string count_text(std::int64_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

std::string size_text(std::uint64_t bytes) {
  constexpr const char* units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 1000) return std::to_string(bytes) + " B";
  auto size = static_cast<double>(bytes) / 1000.0;
  std::size_t unit = 0;
  for (; size >= 999.995 && unit + 1 < std::size(units); ++unit) size /= 1000.0;
  return formatted("%.2f %s", size, units[unit]);
}

std::string error_text(double error) { return formatted("%.4g", error); }

std::string fixed(double value, int digits) {
  char text[512];  // the largest double has 309 digits
  const int size = std::snprintf(text, sizeof text, "%.*f", digits, value);
  return {text, static_cast<std::size_t>(std::max(size, 0))};
}

double bits_per_weight(std::uint64_t bytes, std::int64_t weights) {
  return weights > 0 ? static_cast<double>(bytes) * 8.0 / static_cast<double>(weights) : 0.0;
}

std::string bits_text(double bits) { return formatted("%.2f", bits); }

ordered_json to_json(const tensor_info& t) {
  return {{"name", t.name}, {"dtype", dtype_name(t.type)}, {"shape", t.shape}, {"bytes", t.bytes()}};
}

ordered_json to_json(const std::vector<copied_tensor>& copied) {
  ordered_json list = ordered_json::array();
  for (const copied_tensor& c : copied) {
    ordered_json entry = to_json(c.tensor);
    entry["reason"] = c.reason;
    list.push_back(std::move(entry));
  }
  return list;
}

std::string copied_table(const std::vector<copied_tensor>& copied) {
  if (copied.empty()) return {};
  table t({{"copied"}, {"dtype"}, {"shape"}, {"bytes", align::right}, {"reason"}});
  for (const copied_tensor& c : copied)
    t.add({printable(c.tensor.name), dtype_name(c.tensor.type), shape_text(c.tensor.shape),
           std::to_string(c.tensor.bytes()), c.reason});
  return t.text() + '\n';
}

namespace {

[[nodiscard]] std::string name_list(const std::vector<std::string>& names) {
  constexpr std::size_t most = 20;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), most); ++i) text += (i > 0 ? ", " : "") + printable(names[i]);
  return names.size() > most ? text + " and " + std::to_string(names.size() - most) + " more" : text;
}

}  // namespace

std::vector<std::string> left_out(const std::string& input, const std::string& output) {
  std::error_code error;
  if (!std::filesystem::is_directory(input, error)) return {};
  const bool is_folder = std::filesystem::is_directory(output, error);
  const checkpoint_reader in = checkpoint_reader::open(input).value();
  std::vector<std::string> names;
  for (const std::vector<std::string>* files : {&in.other_files(), &in.ignored_files()})
    for (const std::string& name : *files)
      if (!is_folder || !std::filesystem::exists(std::filesystem::path(output) / name, error)) names.push_back(name);
  std::sort(names.begin(), names.end());
  return names;
}

std::string left_out_text(const std::vector<std::string>& names) {
  return names.empty() ? "" : "not taken over: " + name_list(names) + "\n";
}

std::string stray_text(const std::vector<std::string>& names) {
  return names.empty() ? ""
                       : "not in the index, and not read: " + name_list(names) +
                             "; to read it too: --take FILE, to make an index of all files: mxfp4 index\n";
}

void keep_standard_output_for(const std::string& output) {
  struct stat file {
  }, standard{};
  if (::stat(output.c_str(), &file) == 0 && ::fstat(STDOUT_FILENO, &standard) == 0 && file.st_dev == standard.st_dev &&
      file.st_ino == standard.st_ino)
    report_stream() = stderr;
}

void print(const std::string& text) {
  std::FILE* const to = report_stream();
  if (std::fwrite(text.data(), 1, text.size(), to) != text.size() || std::fflush(to) != 0)
    throw file_error({.file = to == stdout ? "standard output" : "standard error", .value = "cannot write the report"});
}

void print(const ordered_json& json) {
  print(json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + '\n');  // a path need not be UTF-8
}

void print_line(const ordered_json& json) {
  print(json.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + '\n');
}

void warn(const std::vector<std::string>& warnings) {
  const std::string label = coloured("mxfp4: warning:", colour::warning, STDERR_FILENO);
  for (const std::string& warning : warnings) std::fprintf(stderr, "%s %s\n", label.c_str(), shown(warning).c_str());
}

progress_line::progress_line() : terminal_(::isatty(STDERR_FILENO) != 0) {}

progress_line::~progress_line() {
  if (shown_) std::fputs("\r\x1b[K", stderr);
}

bool progress_line::is_time(bool last) {
  const auto now = std::chrono::steady_clock::now();
  if (!terminal_ || (now < next_ && !last)) return false;
  next_ = now + std::chrono::milliseconds(100);
  return true;
}

void progress_line::show(std::uint64_t done, std::uint64_t total, const std::string& amounts, const std::string& note) {
  shown_ = true;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  const double all = static_cast<double>(total), part = static_cast<double>(std::min(done, total));
  const auto left = static_cast<long long>(part > 0 ? seconds * (all - part) / part : 0.0);
  std::fprintf(stderr, "\r%3.0f %%  %s  %lld:%02lld:%02lld left%s%s\x1b[K", 100.0 * static_cast<double>(done) / all,
               amounts.c_str(), left / 3600, left / 60 % 60, left % 60, note.empty() ? "" : "  ",
               shown(note, 100).c_str());
  std::fflush(stderr);
}

void progress_line::update(std::uint64_t done, std::uint64_t total, const std::string& note) {
  if (!is_time(done >= total)) return;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  const double rate = static_cast<double>(done) / std::max(seconds, 1e-3);
  show(done, total,
       size_text(done) + " of " + size_text(total) + "  " + size_text(static_cast<std::uint64_t>(rate)) + "/s", note);
}

void progress_line::count(std::int64_t done, std::int64_t total, const std::string& things, const std::string& note) {
  if (!is_time(done >= total)) return;
  show(static_cast<std::uint64_t>(done), static_cast<std::uint64_t>(total),
       std::to_string(done) + " of " + std::to_string(total) + " " + things, note);
}

}  // namespace mxfp4::tools
