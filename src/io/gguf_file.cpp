// src/io/gguf_file.cpp -- the header read piece by piece, and ranges of data.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/io/gguf_file.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <optional>
#include <unordered_set>
#include <utility>

#include "io/guarded.hpp"
#include "io/utf8.hpp"
#include "mxfp4/io/byte_order.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

namespace {

constexpr std::uint32_t gguf_version = 3;
constexpr std::uint64_t string_limit = 1 << 30;  ///< bytes; ggml's own
constexpr std::uint64_t least_pair_bytes = 8 + 1 + 4 + 1;
constexpr std::uint64_t least_tensor_bytes = 8 + 4 + 4 + 8;
constexpr std::uint64_t least_string_bytes = 8;

/// The bytes of the file in order. Every length is compared with what is left before anything is allocated for it.
class cursor {
 public:
  explicit cursor(const input_file& file) : file_(file) {}

  [[nodiscard]] std::uint64_t at() const noexcept { return at_; }
  [[nodiscard]] std::uint64_t left() const noexcept { return file_.size() - at_; }

  /// `what` for the message where the file ends before.
  void bytes(std::span<std::byte> out, const std::string& what) {
    if (out.size() > left()) ends(what, out.size());
    while (!out.empty()) {
      if (at_ < begin_ || at_ >= begin_ + filled_) fill();
      const std::size_t skip = at_ - begin_, count = std::min(out.size(), filled_ - skip);
      std::copy_n(buffer_.data() + skip, count, out.data());
      at_ += count;
      out = out.subspan(count);
    }
  }

  [[nodiscard]] std::uint64_t number(std::size_t size, const std::string& what) {
    std::array<std::byte, 8> raw{};
    bytes(std::span(raw).first(size), what);
    return load_u64(raw);
  }

  [[nodiscard]] std::string string(const std::string& what) {
    const std::uint64_t size = number(8, what);
    if (size > string_limit)
      throw file_error({.file = file_.path(),
                        .value = what + " has " + std::to_string(size) + " bytes",
                        .expected = "at most " + std::to_string(string_limit),
                        .advice = "this is damaged"});
    if (size > left()) ends(what, size);
    std::string text(size, '\0');
    bytes(std::as_writable_bytes(std::span(text)), what);
    return text;
  }

  void skip(std::uint64_t count, const std::string& what) {
    if (count > left()) ends(what, count);
    at_ += count;
  }

 private:
  [[noreturn]] void ends(const std::string& what, std::uint64_t wanted) const {
    throw file_error({.file = file_.path(),
                      .value = "ends in " + what + ": " + std::to_string(wanted) + " bytes from byte " +
                               std::to_string(at_) + " on, the file holds " + std::to_string(left()),
                      .advice = "it was truncated"});
  }

  void fill() {
    begin_ = at_;
    filled_ = static_cast<std::size_t>(std::min<std::uint64_t>(buffer_.size(), left()));
    file_.read(at_, std::span(buffer_).first(filled_)).value();
  }

  const input_file& file_;
  std::uint64_t at_ = 0, begin_ = 0;
  std::size_t filled_ = 0;
  std::array<std::byte, 1 << 16> buffer_{};
};

class header_parser {
 public:
  explicit header_parser(const input_file& file) : path_(file.path()), in_(file) {}

  [[nodiscard]] gguf_header parse() {
    std::array<std::byte, 4> magic{};
    in_.bytes(magic, "the magic");
    const std::string text(reinterpret_cast<const char*>(magic.data()), magic.size());
    if (text != "GGUF")
      throw file_error({.file = path_,
                        .value = "begins with " + quote_name(text),
                        .expected = "'GGUF'",
                        .advice = "this is not a GGUF file"});
    const std::uint64_t version = in_.number(4, "the version");
    if (version != gguf_version)
      throw file_error({.file = path_,
                        .value = "is of version " + std::to_string(version),
                        .expected = "3",
                        .advice = (version & 0xFFFF) == 0 ? "it was written on a big-endian machine" : ""});
    const std::uint64_t tensors = in_.number(8, "the number of tensors");
    const std::uint64_t pairs = in_.number(8, "the number of pairs");
    check_count(pairs, least_pair_bytes, "pairs");
    for (std::uint64_t i = 0; i < pairs; ++i) read_pair();
    header_.alignment = gguf_alignment(header_, path_).value();
    check_count(tensors, least_tensor_bytes, "tensors");
    for (std::uint64_t i = 0; i < tensors; ++i) read_tensor();
    return std::move(header_);
  }

  [[nodiscard]] std::uint64_t at() const noexcept { return in_.at(); }

 private:
  void check_count(std::uint64_t count, std::uint64_t least, const char* what) const {
    if (count > in_.left() / least)
      throw file_error({.file = path_,
                        .value = "announces " + std::to_string(count) + " " + what + ", the " +
                                 std::to_string(in_.left()) + " bytes behind that hold " +
                                 std::to_string(in_.left() / least) + " at most",
                        .advice = "the file is damaged or was truncated"});
  }

  [[nodiscard]] gguf_type read_type(const std::string& where) {
    const std::uint64_t type = in_.number(4, where);
    if (type >= gguf_type_count)
      throw file_error({.file = path_,
                        .value = where + " is of type " + std::to_string(type),
                        .expected = "0 to " + std::to_string(gguf_type_count - 1)});
    return static_cast<gguf_type>(type);
  }

  [[nodiscard]] bool read_boolean(const std::string& where) {
    const std::uint64_t value = in_.number(1, where);
    if (value > 1)
      throw file_error(
          {.file = path_, .value = where + " is the boolean " + std::to_string(value), .expected = "0 or 1"});
    return value != 0;
  }

  void read_pair() {
    gguf_pair pair;
    pair.key = in_.string("a key");
    const std::string where = "key " + quote_name(pair.key);
    if (pair.key.empty()) throw file_error({.file = path_, .value = "a key is empty", .expected = "a name"});
    if (!keys_.insert(pair.key).second)
      throw file_error({.file = path_, .value = where + " is there twice", .expected = "once"});
    pair.type = read_type(where);
    switch (pair.type) {
      case gguf_type::u8:
      case gguf_type::u16:
      case gguf_type::u32:
      case gguf_type::u64:
        pair.value = in_.number(scalar_bytes(pair.type), where);
        break;
      case gguf_type::i8:
      case gguf_type::i16:
      case gguf_type::i32:
      case gguf_type::i64: {
        const auto unused = static_cast<int>(64 - 8 * scalar_bytes(pair.type));
        pair.value = static_cast<std::int64_t>(in_.number(scalar_bytes(pair.type), where) << unused) >> unused;
        break;
      }
      case gguf_type::f32:
        pair.value = double{std::bit_cast<float>(static_cast<std::uint32_t>(in_.number(4, where)))};
        break;
      case gguf_type::f64:
        pair.value = std::bit_cast<double>(in_.number(8, where));
        break;
      case gguf_type::boolean:
        pair.value = read_boolean(where);
        break;
      case gguf_type::string:
        pair.value = in_.string(where);
        break;
      case gguf_type::array:
        pair.value = read_array(where);
    }
    header_.pairs.push_back(std::move(pair));
  }

  [[nodiscard]] static std::size_t scalar_bytes(gguf_type type) noexcept {
    constexpr std::array<std::size_t, gguf_type_count> sizes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return sizes[static_cast<std::size_t>(type)];
  }

  [[nodiscard]] gguf_array read_array(const std::string& where) {
    gguf_array array{read_type(where), 0};
    if (array.type == gguf_type::array)
      throw file_error(
          {.file = path_, .value = where + " is an array of arrays", .expected = "one of numbers or strings"});
    array.size = in_.number(8, where);
    const bool strings = array.type == gguf_type::string;
    check_count(array.size, strings ? least_string_bytes : scalar_bytes(array.type), (where + " elements").c_str());
    if (!strings && array.type != gguf_type::boolean) {
      in_.skip(array.size * scalar_bytes(array.type), where);
      return array;
    }
    for (std::uint64_t i = 0; i < array.size; ++i) {
      if (strings) in_.skip(in_.number(8, where), where);
      else (void)read_boolean(where);
    }
    return array;
  }

  void read_tensor() {
    gguf_tensor t;
    t.name = in_.string("a tensor's name");
    const std::string what = "tensor " + quote_name(t.name);
    if (utf8::first_error(t.name) != t.name.size())
      throw file_error({.file = path_, .tensor = t.name, .value = "has a name that is not UTF-8", .expected = "UTF-8"});
    if (t.name.size() > gguf_name_limit)
      throw file_error({.file = path_,
                        .tensor = t.name,
                        .value = "the name has " + std::to_string(t.name.size()) + " bytes",
                        .expected = "at most " + std::to_string(gguf_name_limit)});
    if (!names_.insert(t.name).second)
      throw file_error({.file = path_, .tensor = t.name, .value = "is there twice", .expected = "once"});
    const std::uint64_t dimensions = in_.number(4, what);
    if (dimensions > gguf_dimension_limit)
      throw file_error({.file = path_,
                        .tensor = t.name,
                        .value = "has " + std::to_string(dimensions) + " dimensions",
                        .expected = "at most " + std::to_string(gguf_dimension_limit)});
    for (std::uint64_t i = 0; i < dimensions; ++i) {
      const std::uint64_t n = in_.number(8, what);
      if (n > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
        throw file_error({.file = path_,
                          .tensor = t.name,
                          .value = "a dimension is " + std::to_string(n),
                          .expected = "less than 2^63"});
      t.shape.insert(t.shape.begin(), static_cast<std::int64_t>(n));
    }
    const auto number = static_cast<std::uint32_t>(in_.number(4, what));
    const std::optional<ggml_type> type = find_ggml_type(number);
    if (!type)
      throw file_error({.file = path_,
                        .tensor = t.name,
                        .value = "is of ggml type " + std::to_string(number),
                        .expected = "F32, F16, BF16, F64, I8, I16, I32, I64, MXFP4 or Q8_0",
                        .advice = "no other type is read"});
    t.type = *type;
    t.bytes = value_at(gguf_tensor_bytes(t.type, t.shape), path_, t.name);
    t.begin = in_.number(8, what);
    if (t.begin != end_)
      throw file_error({.file = path_,
                        .tensor = t.name,
                        .value = "the data begins at byte " + std::to_string(t.begin),
                        .expected = std::to_string(end_) + ", the padded end of the tensor before it"});
    const std::uint64_t bytes = padded(t.bytes, header_.alignment);
    if (bytes > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) - end_)
      throw file_error({.file = path_, .tensor = t.name, .value = "the data ends at byte 2^63 or beyond"});
    end_ += bytes;
    header_.tensors.push_back(std::move(t));
  }

  const std::string& path_;
  cursor in_;
  std::uint64_t end_ = 0;  // of the tensors so far, padded
  std::unordered_set<std::string> keys_, names_;
  gguf_header header_;
};

}  // namespace

file_result<gguf_reader> gguf_reader::open(const std::string& path) {
  return guarded([&] { return gguf_reader(path); });
}

gguf_reader::gguf_reader(const std::string& path) : file_(input_file::open(path).value()) {
  header_parser parser(file_);
  header_ = parser.parse();
  data_begin_ = padded(parser.at(), header_.alignment);
  const gguf_tensor* last = header_.tensors.empty() ? nullptr : &header_.tensors.back();
  const std::uint64_t end = last == nullptr ? 0 : last->begin + last->bytes;
  const std::uint64_t found = file_.size() - std::min(file_.size(), data_begin_);
  if (found < end)
    throw file_error({.file = path,
                      .tensor = last->name,
                      .value = "the data ends at byte " + std::to_string(end) + ", the file holds " +
                               std::to_string(found) + " bytes of it",
                      .advice = "the file was truncated"});
  if (found > padded(end, header_.alignment))
    throw file_error({.file = path,
                      .value = "the data ends at byte " + std::to_string(padded(end, header_.alignment)) +
                               ", the file holds " + std::to_string(found) + " bytes of it",
                      .advice = "there is something behind the last tensor"});
  for (const gguf_tensor& t : header_.tensors) by_name_.emplace(t.name, &t);
}

const gguf_tensor* gguf_reader::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : found->second;
}

file_result<void> gguf_reader::read(const gguf_tensor& tensor, std::uint64_t offset, std::span<std::byte> bytes) const {
  if (offset > tensor.bytes || bytes.size() > tensor.bytes - offset)
    return file_error({.file = path(),
                       .tensor = tensor.name,
                       .value = "read of " + std::to_string(bytes.size()) + " bytes at " + std::to_string(offset),
                       .expected = "to stay within " + std::to_string(tensor.bytes)});
  return file_.read(data_begin_ + tensor.begin + offset, bytes);
}

file_result<gguf_writer> gguf_writer::create(const std::string& path, gguf_header header, stop_function stop,
                                             existing_file existing) {
  return guarded([&] { return gguf_writer(path, std::move(header), std::move(stop), existing); });
}

gguf_writer::gguf_writer(const std::string& path, gguf_header header, stop_function stop, existing_file existing)
    : file_(output_file::create(path, std::move(stop), existing).value()),
      header_(std::move(header)),
      written_(header_.tensors.size()) {
  const std::string text = format_gguf_header(header_, path).value();
  for (std::size_t i = 0; i < header_.tensors.size(); ++i) by_name_.emplace(header_.tensors[i].name, i);
  data_begin_ = file_bytes_ = text.size();
  file_.write(0, std::as_bytes(std::span(text))).value();
  // What lies between tensors is never written to and reads as zero; a byte at the end brings it about.
  for (const gguf_tensor& t : header_.tensors) file_bytes_ = data_begin_ + t.begin + padded(t.bytes, header_.alignment);
  constexpr std::byte zero{};
  if (file_bytes_ > data_begin_) file_.write(file_bytes_ - 1, {&zero, 1}).value();
}

file_result<void> gguf_writer::append(std::string_view name, std::span<const std::byte> bytes) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end())
    return file_error({.file = file_.path(), .tensor = std::string(name), .value = "is not in the header"});
  const gguf_tensor& t = header_.tensors[found->second];
  std::uint64_t& written = written_[found->second];
  if (bytes.size() > t.bytes - written)
    return file_error({.file = file_.path(),
                       .tensor = std::string(name),
                       .value = std::to_string(written + bytes.size()) + " bytes were written",
                       .expected = std::to_string(t.bytes)});
  auto done = file_.write(data_begin_ + t.begin + written, bytes);
  if (done) written += bytes.size();
  return done;
}

file_result<void> gguf_writer::commit() {
  for (std::size_t i = 0; i < written_.size(); ++i)
    if (const gguf_tensor& t = header_.tensors[i]; written_[i] != t.bytes)
      return file_error({.file = file_.path(),
                         .tensor = t.name,
                         .value = std::to_string(written_[i]) + " bytes were written",
                         .expected = std::to_string(t.bytes)});
  return file_.commit();
}

}  // namespace mxfp4::io
