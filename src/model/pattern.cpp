// src/model/pattern.cpp -- see pattern.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "model/pattern.hpp"

#include "mxfp4/io/error.hpp"

#ifdef MXFP4_MODEL_ONIGURUMA
#include <oniguruma.h>

namespace mxfp4::model {

using namespace io;
namespace {

const OnigUChar* bytes(const char* text) { return reinterpret_cast<const OnigUChar*>(text); }

std::string reason(int code, OnigErrorInfo* info = nullptr) {
  OnigUChar text[ONIG_MAX_ERROR_MESSAGE_LEN];
  const int length = info != nullptr ? onig_error_code_to_str(text, code, info) : onig_error_code_to_str(text, code);
  return {reinterpret_cast<const char*>(text), static_cast<std::size_t>(length)};
}

struct free_region {
  void operator()(OnigRegion* region) const { onig_region_free(region, 1); }
};

}  // namespace

struct pattern::compiled {
  compiled() = default;
  compiled(const compiled&) = delete;
  compiled& operator=(const compiled&) = delete;
  ~compiled() { onig_free(program); }

  regex_t* program = nullptr;
};

pattern::pattern(std::string_view expression, const std::string& where) {
  auto made = std::make_shared<compiled>();
  OnigErrorInfo info{};
  OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
  int code = onig_initialize(encodings, 1);
  if (code == ONIG_NORMAL)
    code = onig_new(&made->program, bytes(expression.data()), bytes(expression.data() + expression.size()),
                    ONIG_OPTION_NONE, ONIG_ENCODING_UTF8, ONIG_SYNTAX_DEFAULT, &info);
  if (code != ONIG_NORMAL)
    throw file_error({.file = where, .value = "is no regular expression that Oniguruma takes: " + reason(code, &info)});
  compiled_ = std::move(made);
}

std::vector<pattern::range> pattern::matches(std::string_view text) const {
  const std::unique_ptr<OnigRegion, free_region> region(onig_region_new());
  const OnigUChar* const begin = bytes(text.data());
  const OnigUChar* const end = begin + text.size();
  std::vector<range> found;
  for (const OnigUChar* at = begin; at < end;) {
    const int code = onig_search(compiled_->program, begin, end, at, end, region.get(), ONIG_OPTION_NONE);
    if (code == ONIG_MISMATCH) break;
    if (code < 0) throw file_error({.value = "a regular expression of the tokenizer gives up: " + reason(code)});
    const range match{static_cast<std::size_t>(region->beg[0]), static_cast<std::size_t>(region->end[0])};
    at = begin + match.end;
    if (match.begin < match.end) found.push_back(match);
    else if (at < end) at += ONIGENC_MBC_ENC_LEN(ONIG_ENCODING_UTF8, at);
  }
  return found;
}

}  // namespace mxfp4::model

#else

#include "mxfp4/io/error.hpp"

namespace mxfp4::model {

struct pattern::compiled {};

pattern::pattern(std::string_view, const std::string& where) {
  throw io::file_error({.file = where,
                        .value = "needs regular expressions with Unicode, and this program was built without Oniguruma",
                        .advice = "build it with libonig-dev, or give the tokens as numbers"});
}

std::vector<pattern::range> pattern::matches(std::string_view) const { return {}; }

}  // namespace mxfp4::model
#endif
