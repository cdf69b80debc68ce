// src/calibrate/imatrix_codes.hpp -- codes by an importance matrix of llama.cpp: no model runs.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "calibrate/imatrix.hpp"
#include "mxfp4/checkpoint/code_source.hpp"
#include "mxfp4/checkpoint/quantize.hpp"
#include "mxfp4/checkpoint/reader.hpp"

namespace mxfp4::calibrate {

class imatrix_codes final : public checkpoint::code_source {
 public:
  /// @param settings  of the run that takes the codes: they say which weights are quantised.
  /// @param path      of the importance matrix.
  /// @throws io::file_error as read_imatrix and make_plan, where no entry is for a weight that is quantised, and where
  /// one is for another number of experts or columns than the weight has.
  imatrix_codes(const checkpoint::checkpoint_reader& original, const checkpoint::checkpoint_settings& settings,
                const std::string& path);

  [[nodiscard]] std::string record() const override;
  void prepare(const std::string& /*folder*/) override {}
  [[nodiscard]] bool has(const std::string& weight) const override { return places_.contains(weight); }
  checkpoint::code_costs choose(const std::string& weight, std::int64_t expert, std::int64_t first,
                                std::span<const float> weights, std::span<std::uint8_t> codes,
                                std::span<std::uint8_t> scales) const override;
  [[nodiscard]] std::string facts(const std::string& weight, std::int64_t expert) const override;

  /// Of the matrices that are quantised, those for which there is no entry, and those of experts that met no token.
  [[nodiscard]] std::int64_t without_entry() const noexcept { return without_entry_; }
  [[nodiscard]] std::int64_t without_tokens() const noexcept { return without_tokens_; }

 private:
  /// An entry, each expert's part with a mean of 1 and the damping added; empty where no token was counted.
  struct importance {
    std::int64_t cols = 0;
    std::vector<std::vector<float>> of_expert;
    std::vector<std::int64_t> counts;
  };
  struct place {
    const importance* entry = nullptr;
    std::int64_t expert = 0;
  };

  std::string hash_;
  std::int64_t chunks_ = 0, chunk_size_ = 0, without_entry_ = 0, without_tokens_ = 0;
  std::map<std::string, importance> entries_;
  std::map<std::string, place> places_;  // by the weight's name
};

}  // namespace mxfp4::calibrate
