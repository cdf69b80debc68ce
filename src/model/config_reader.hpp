// src/model/config_reader.hpp -- the keys of a config.json, each with what it may say.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.hpp"

namespace mxfp4::model {

/// Every function throws file_error where a key is missing that has no default, or says what it must not, naming file,
/// key, value and what was expected. A null is a missing key.
class config_reader {
 public:
  /// @param config  must outlive this.  @param where  begins the messages.
  config_reader(const nlohmann::ordered_json& config, std::string where);

  [[nodiscard]] std::string text(const char* key, std::string_view otherwise = {}) const;
  [[nodiscard]] bool flag(const char* key, bool otherwise) const;
  [[nodiscard]] double number(const char* key) const;  ///< above 0
  [[nodiscard]] double number(const char* key, double otherwise) const;
  [[nodiscard]] std::int64_t size(const char* key) const;  ///< an integer from 1 to 2^30
  [[nodiscard]] std::int64_t size(const char* key, std::int64_t otherwise) const;
  [[nodiscard]] std::int64_t count(const char* key, std::int64_t otherwise) const;  ///< an integer from 0 to 2^30
  [[nodiscard]] bool has(const char* key) const;
  [[nodiscard]] bool lists(const char* key, std::int64_t number) const;  ///< an array of numbers; none: does not

  /// A key that may be missing, but not say anything else.
  void require(const char* key, const nlohmann::ordered_json& value) const;
  [[noreturn]] void refuse(const std::string& key, const nlohmann::ordered_json& value, const std::string& expected,
                           const std::string& advice = "no other variant is computed here") const;

  /// The sizes that all families have under the same names.
  void read_shape(model_config& c) const;
  /// @param given_theta  where the file has none; 0: it must.
  /// @param given_part   of a head's dimensions that turn, where partial_rotary_factor does not say it.
  [[nodiscard]] rotary_description rotary(std::int64_t head_dim, std::int64_t context, double given_theta = 0,
                                          double given_part = 1) const;
  /// A window for each layer by "layer_types" and "sliding_window".
  /// @param otherwise  the kind of a layer where there is no such list: "sliding_attention" or "full_attention".
  [[nodiscard]] std::vector<std::int64_t> windows(std::int64_t layers,
                                                  std::string_view (*otherwise)(std::int64_t layer)) const;
  [[nodiscard]] hidden_act activation() const;  ///< "hidden_act"

  [[nodiscard]] const std::string& where() const noexcept { return where_; }

 private:
  [[nodiscard]] const nlohmann::ordered_json* find(const char* key) const;

  const nlohmann::ordered_json& config_;
  std::string where_;
};

}  // namespace mxfp4::model
