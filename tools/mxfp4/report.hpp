// tools/mxfp4/report.hpp -- what the commands print: aligned tables, sizes, JSON, a progress line.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/block_encoder.hpp"
#include "checkpoint/statistics_json.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"

namespace mxfp4::tools {

using checkpoint::to_json;  // of error_statistics, beside those below

enum class align { left, right };

/// Columns as wide as their widest cell, two blanks apart.
class table {
 public:
  struct column {
    std::string title;
    align side = align::left;
  };
  explicit table(std::vector<column> columns) : columns_(std::move(columns)) {}

  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  [[nodiscard]] bool empty() const noexcept { return rows_.empty(); }
  [[nodiscard]] std::string text() const;  ///< title line and rows, each with its line end

 private:
  std::vector<column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

[[nodiscard]] std::string printable(const std::string& name);                       ///< control characters as \xNN
[[nodiscard]] std::string count_text(std::int64_t count, const std::string& noun);  ///< "1 tensor", "2 tensors"
[[nodiscard]] std::string size_text(std::uint64_t bytes);                           ///< "15.04 MB"
[[nodiscard]] std::string error_text(double error);                                 ///< four significant digits
[[nodiscard]] std::string fixed(double value, int digits);                          ///< so many after the point
[[nodiscard]] double bits_per_weight(std::uint64_t bytes, std::int64_t weights);
[[nodiscard]] std::string bits_text(double bits);

[[nodiscard]] checkpoint::ordered_json to_json(const io::tensor_info& t);
[[nodiscard]] checkpoint::ordered_json to_json(const std::vector<checkpoint::copied_tensor>& copied);
[[nodiscard]] std::string copied_table(const std::vector<checkpoint::copied_tensor>& copied);  ///< empty for none

/// The files of a checkpoint's directory `input` that have no counterpart in the directory `output`, but for the shards
/// and the index: what a command did not take over. All of them where `output` is a file, none where `input` is one.
[[nodiscard]] std::vector<std::string> left_out(const std::string& input, const std::string& output);
/// A line of them, empty for none.
[[nodiscard]] std::string left_out_text(const std::vector<std::string>& names);
/// A line for .safetensors files that no index names; empty for none.
[[nodiscard]] std::string stray_text(const std::vector<std::string>& names);
/// From now on reports go to standard error where `output` leads to standard output, to which the data go.
void keep_standard_output_for(const std::string& output);

/// All of a report at once. @throws file_error where standard output takes it not.
void print(const std::string& text);
void print(const checkpoint::ordered_json& json);
void print_line(const checkpoint::ordered_json& json);  ///< on one line, for logs

/// Each as a line of its own on standard error.
void warn(const std::vector<std::string>& warnings);

/// One line on standard error with bytes and their rate, or what else is counted, and the time left, if that is a
/// terminal; it is gone at the end.
class progress_line {
 public:
  progress_line();
  ~progress_line();
  progress_line(const progress_line&) = delete;
  progress_line& operator=(const progress_line&) = delete;
  void update(std::uint64_t done, std::uint64_t total, const std::string& note = {});
  /// The same for things that are counted. @param things  "layers"
  void count(std::int64_t done, std::int64_t total, const std::string& things, const std::string& note = {});

 private:
  void show(std::uint64_t done, std::uint64_t total, const std::string& amounts, const std::string& note);
  [[nodiscard]] bool is_time(bool last);

  bool terminal_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now(), next_{};
};

}  // namespace mxfp4::tools
