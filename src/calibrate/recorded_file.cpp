// src/calibrate/recorded_file.cpp -- see recorded_file.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "calibrate/recorded_file.hpp"

#include <filesystem>
#include <optional>
#include <utility>

#include "checkpoint/quantize_journal.hpp"
#include "checkpoint/sealed_json.hpp"
#include "checkpoint/shared_progress.hpp"
#include "mxfp4/checkpoint/verify.hpp"

namespace mxfp4::calibrate {

using namespace io;
using namespace checkpoint;

bool is_recorded(const std::string& path) { return is_file(path) && is_file(path + ".json"); }

recorded_file_writer::recorded_file_writer(std::string path, std::vector<tensor_info> tensors,
                                           const stop_function& stop)
    : path_(std::move(path)),
      stop_(stop),
      file_(safetensors_writer::create(path_, std::move(tensors), std::nullopt, stop, existing_file::replace_link)
                .value()),
      hashes_(file_.header()) {}

void recorded_file_writer::append(const std::string& name, std::span<const std::byte> bytes) {
  file_.append(name, bytes).value();
  hashes_.add(name, bytes);
}

void recorded_file_writer::commit(const nlohmann::ordered_json& experts) {
  nlohmann::ordered_json report = recorded_content(std::filesystem::path(path_).filename().string(), file_, hashes_);
  report["experts"] = experts;
  write_text_file(path_ + ".json", sealed_text(report), stop_);
  file_.commit().value();
}

void require_recorded(const safetensors_reader& file, const nlohmann::ordered_json& report, int threads,
                      const stop_function& stop) {
  verify_options reading;
  reading.stop = stop;
  shared_progress progress(reading, file.file_bytes());  // told to nobody
  check_shard_hashes(file, report, threads, progress);
}

std::vector<std::uint8_t> read_bytes(const safetensors_reader& file, const std::string& name) {
  const tensor_info* const t = file.find(name);
  if (t == nullptr)
    throw file_error({.file = file.path(), .tensor = name, .value = "is missing", .advice = "remove the file"});
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(t->bytes()));
  file.read(*t, 0, std::as_writable_bytes(std::span(bytes))).value();
  return bytes;
}

}  // namespace mxfp4::calibrate
