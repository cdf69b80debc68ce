// src/io/safetensors_header.cpp -- the JSON header <-> safetensors_header, and everything it may not say.
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <tuple>
#include <unordered_set>
#include <utility>

#include "io/guarded.hpp"
#include "mxfp4/io/byte_order.hpp"
#include "mxfp4/io/safetensors.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::io {

namespace {

using nlohmann::json;

struct dtype_row {
  const char* name;
  int bits;
};
constexpr std::array<dtype_row, dtype_count> dtypes = {{
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
}};

constexpr const char* metadata_key = "__metadata__";

/// Far beyond any model's: what is longer would only take memory.
constexpr std::size_t longest_name = 4096, most_dimensions = 64;

/// Takes the events of the JSON parser; whatever is not exactly the header's grammar ends in a file_error. SAX and not
/// a document, because a document has forgotten duplicate keys and turned large numbers into floats.
class header_events final : public json::json_sax_t {
 public:
  explicit header_events(const std::string& file) : file_(file) {}

  safetensors_header take() { return std::move(header_); }

  bool null() override { unexpected("null"); }
  bool boolean(bool value) override { unexpected(value ? "true" : "false"); }
  bool number_integer(json::number_integer_t value) override { unexpected(std::to_string(value)); }
  bool number_float(json::number_float_t, const std::string& text) override { unexpected(text); }
  bool binary(json::binary_t&) override { unexpected("binary data"); }

  bool number_unsigned(json::number_unsigned_t value) override {
    if (place_ != place::shape && place_ != place::offsets) unexpected(std::to_string(value));
    if (numbers_.size() == most_dimensions)
      fail("has more than " + std::to_string(most_dimensions) + " numbers in " + std::string(fields[field_index()]),
           "at most as many");
    numbers_.push_back(value);
    return true;
  }

  bool string(std::string& value) override {
    if (place_ == place::extra) {
      header_.extra->emplace(key_, std::move(value));
    } else if (place_ == place::tensor && field_ == field::dtype) {
      const std::optional<dtype> type = find_dtype(value);
      if (!type) fail("dtype is " + quote_name(value), "one of BOOL, F4, U8, F8_E4M3, BF16, F16, F32 and so on");
      tensor_.type = *type;
    } else {
      unexpected("the string " + quote_name(value));
    }
    return true;
  }

  bool key(std::string& name) override {
    if (place_ == place::top) {
      if (name.size() > longest_name) {
        tensor_.name = std::move(name);
        fail("the name has " + std::to_string(tensor_.name.size()) + " bytes",
             "at most " + std::to_string(longest_name));
      }
      if (!names_.insert(name).second)
        throw file_error(
            {.file = file_, .value = "the header names " + quote_name(name) + " twice", .expected = "once"});
      tensor_ = {};
      tensor_.name = std::move(name);
      seen_ = 0;
    } else if (place_ == place::extra) {
      if (header_.extra->contains(name)) fail(quote_name(name) + " is there twice", "once");
      key_ = std::move(name);
    } else {
      const auto* found = std::find(fields.begin(), fields.end(), name);
      if (found == fields.end()) fail("has a field " + quote_name(name), "dtype, shape and data_offsets only");
      field_ = static_cast<field>(found - fields.begin());
      if ((seen_ & bit(field_)) != 0) fail("the field " + name + " is there twice", "once");
      seen_ |= bit(field_);
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == place::start) {
      place_ = place::top;
    } else if (place_ == place::top && tensor_.name == metadata_key) {
      place_ = place::extra;
      header_.extra.emplace();
    } else if (place_ == place::top) {
      place_ = place::tensor;
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool end_object() override {
    if (place_ == place::tensor) finish_tensor();
    place_ = place_ == place::top ? place::end : place::top;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != place::tensor || field_ == field::dtype) unexpected("an array");
    place_ = field_ == field::shape ? place::shape : place::offsets;
    numbers_.clear();
    return true;
  }

  bool end_array() override {
    if (place_ == place::shape) {
      for (const std::uint64_t n : numbers_) {
        if (n > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
          fail("shape holds " + std::to_string(n), "less than 2^63");
        tensor_.shape.push_back(static_cast<std::int64_t>(n));
      }
    } else {
      if (numbers_.size() != 2)
        fail("data_offsets holds " + std::to_string(numbers_.size()) + " numbers", "2: [begin, end]");
      tensor_.begin = numbers_[0];
      tensor_.end = numbers_[1];
    }
    place_ = place::tensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string& token, const json::exception&) override {
    throw file_error(
        {.file = file_,
         .value = "the header is not JSON at its byte " + std::to_string(position) + ", near " + quote_name(token),
         .expected = "JSON"});
  }

 private:
  enum class place { start, top, extra, tensor, shape, offsets, end };
  enum class field { dtype, shape, data_offsets };
  static constexpr std::array<std::string_view, 3> fields = {"dtype", "shape", "data_offsets"};
  static constexpr unsigned bit(field f) noexcept { return 1u << static_cast<unsigned>(f); }

  [[nodiscard]] std::size_t field_index() const noexcept { return static_cast<std::size_t>(field_); }

  [[noreturn]] void fail(const std::string& value, const std::string& expected) const {
    if (tensor_.name == metadata_key)
      throw file_error({.file = file_, .value = std::string(metadata_key) + ": " + value, .expected = expected});
    throw file_error({.file = file_, .tensor = tensor_.name, .value = value, .expected = expected});
  }

  [[noreturn]] void unexpected(const std::string& what) const {
    switch (place_) {
      case place::start:
      case place::end:
        throw file_error({.file = file_, .value = "the header is " + what, .expected = "an object"});
      case place::top:
        fail("is " + what, "an object");
      case place::extra:
        fail(quote_name(key_) + " is " + what, "a string");
      case place::shape:
        fail("shape holds " + what, "unsigned 64-bit integers");
      case place::offsets:
        fail("data_offsets holds " + what, "unsigned 64-bit integers");
      case place::tensor:
        break;
    }
    fail(std::string(fields[field_index()]) + " is " + what,
         field_ == field::dtype ? "a string" : "an array of unsigned 64-bit integers");
  }

  void finish_tensor() {
    for (std::size_t i = 0; i < fields.size(); ++i)
      if ((seen_ & bit(static_cast<field>(i))) == 0) fail("has no " + std::string(fields[i]), "one");
    if (tensor_.begin > tensor_.end)
      fail("data_offsets are [" + std::to_string(tensor_.begin) + ", " + std::to_string(tensor_.end) + "]",
           "begin <= end");
    const std::uint64_t bytes = value_at(tensor_bytes(tensor_.type, tensor_.shape), file_, tensor_.name);
    if (tensor_.bytes() != bytes)
      fail("data_offsets [" + std::to_string(tensor_.begin) + ", " + std::to_string(tensor_.end) + "] hold " +
               std::to_string(tensor_.bytes()) + " bytes",
           std::to_string(bytes) + " for " + dtype_name(tensor_.type) + " " + shape_text(tensor_.shape));
    header_.tensors.push_back(std::move(tensor_));
  }

  const std::string& file_;
  place place_ = place::start;
  field field_ = field::dtype;
  unsigned seen_ = 0;
  std::string key_;
  tensor_info tensor_;
  std::vector<std::uint64_t> numbers_;
  std::unordered_set<std::string> names_;
  safetensors_header header_;
};

/// Sorts the tensors by their place and sees that they cover the data exactly.
void check_coverage(std::vector<tensor_info>& tensors, std::uint64_t data_bytes, const std::string& file) {
  std::stable_sort(tensors.begin(), tensors.end(), [](const tensor_info& a, const tensor_info& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  std::uint64_t end = 0;
  for (const tensor_info& t : tensors) {
    if (t.begin != end)
      throw file_error({.file = file,
                        .tensor = t.name,
                        .value = "data begins at byte " + std::to_string(t.begin),
                        .expected = std::to_string(end) + ", where the tensor before it ends",
                        .advice = (t.begin < end ? "they overlap" : "there is a hole")});
    end = t.end;
  }
  if (end != data_bytes)
    throw file_error(
        {.file = file,
         .value = "the tensors end at byte " + std::to_string(end) + " of the data, the file holds " +
                  std::to_string(data_bytes) + " bytes of it",
         .advice = end > data_bytes ? "the file was truncated" : "there is something behind the last tensor"});
}

}  // namespace

const char* dtype_name(dtype type) noexcept { return dtypes[static_cast<std::size_t>(type)].name; }
int dtype_bits(dtype type) noexcept { return dtypes[static_cast<std::size_t>(type)].bits; }

std::optional<dtype> find_dtype(std::string_view name) noexcept {
  for (std::size_t i = 0; i < dtypes.size(); ++i)
    if (name == dtypes[i].name) return static_cast<dtype>(i);
  return std::nullopt;
}

std::int64_t tensor_info::elements() const noexcept {
  std::int64_t product = 1;
  for (const std::int64_t n : shape) product *= n;
  return product;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const std::int64_t n : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  return text + "]";
}

file_result<std::uint64_t> tensor_bytes(dtype type, const std::vector<std::int64_t>& shape) {
  // Zeros are left out of the product, so that even an empty tensor's other dimensions can be multiplied.
  auto bits = static_cast<std::int64_t>(dtype_bits(type));
  bool empty = false;
  for (const std::int64_t n : shape) {
    empty = empty || n == 0;
    if (n > 1 && bits > std::numeric_limits<std::int64_t>::max() / n)
      return file_error({.value = "shape " + shape_text(shape) + " of " + dtype_name(type) + " has 2^63 bits or more",
                         .expected = "less"});
    bits *= std::max<std::int64_t>(n, 1);
  }
  if (empty) return 0;
  if (bits % 8 != 0)
    return file_error(
        {.value = "shape " + shape_text(shape) + " of " + dtype_name(type) + " has " + std::to_string(bits) + " bits",
         .expected = "a whole number of bytes"});
  return static_cast<std::uint64_t>(bits) / 8;
}

file_result<safetensors_header> parse_header(std::string_view text, std::uint64_t data_bytes, const std::string& file) {
  return guarded([&] {
    if (text.empty() || text.front() != '{')
      throw file_error({.file = file,
                        .value = "the header begins with " + (text.empty() ? "nothing" : quote_name(text.substr(0, 1))),
                        .expected = "'{'",
                        .advice = "this is not a safetensors file"});
    // The JSON parser takes a zero byte for the end of its input, and what follows would be read by nobody.
    if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos)
      throw file_error({.file = file,
                        .value = "the header has a zero byte at its byte " + std::to_string(zero),
                        .expected = "JSON text"});
    header_events events(file);
    json::sax_parse(text.begin(), text.end(), &events);
    safetensors_header header = events.take();
    check_coverage(header.tensors, data_bytes, file);
    return header;
  });
}

std::string format_header(const safetensors_header& header) {
  const auto string = [](const std::string& s) { return json(s).dump(); };
  std::string text(8, '\0');
  text += '{';
  const auto separate = [&text] {
    if (text.back() != '{') text += ',';
  };
  if (header.extra) {
    text += string(metadata_key) + ":{";
    for (const auto& [key, value] : *header.extra) {
      separate();
      text += string(key) + ':' + string(value);
    }
    text += '}';
  }
  for (const tensor_info& t : header.tensors) {
    separate();
    text += string(t.name) + R"(:{"dtype":")" + dtype_name(t.type) + R"(","shape":)" + json(t.shape).dump() +
            ",\"data_offsets\":[" + std::to_string(t.begin) + ',' + std::to_string(t.end) + "]}";
  }
  text += '}';
  text.append((8 - text.size() % 8) % 8, ' ');
  store_u64(text.size() - 8, std::as_writable_bytes(std::span(text)).first<8>());
  return text;
}

}  // namespace mxfp4::io
