// tests/float_types.alias.test.cpp -- numbers in memory that its owner knows under another type, with optimisation on.
// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "mxfp4/core/float_types.hpp"
#include "mxfp4/tensor/view.hpp"

namespace {

using namespace mxfp4;

/// Writes, lets the owner write, reads. Not inlined: the compiler must not see that both pointers are one.
template <class Number, class Owner>
[[gnu::noinline]] unsigned read_after_owner_wrote(Number* number, Owner* owner, Owner value) {
  *number = Number{1};
  *owner = value;
  return static_cast<unsigned>(*number);
}
template <class Number, class Owner>
[[gnu::noinline]] Owner owner_reads_after_write(Number* number, Owner* owner, Number value) {
  *owner = Owner{1};
  *number = value;
  return *owner;
}

}  // namespace

TEST_CASE("float types: a pointer that was cast sees what the owner writes", "[float_types]") {
  std::uint16_t word = 0;
  CHECK(read_after_owner_wrote(reinterpret_cast<bf16*>(&word), &word, std::uint16_t{0x3F80}) == 0x3F80);
  CHECK(read_after_owner_wrote(reinterpret_cast<f16*>(&word), &word, std::uint16_t{0x3C00}) == 0x3C00);
  CHECK(owner_reads_after_write(reinterpret_cast<bf16*>(&word), &word, bf16{0xBF80}) == 0xBF80);
  CHECK(owner_reads_after_write(reinterpret_cast<f16*>(&word), &word, f16{0xBC00}) == 0xBC00);
  std::uint8_t byte = 0;
  CHECK(read_after_owner_wrote(reinterpret_cast<e4m3*>(&byte), &byte, std::uint8_t{0x38}) == 0x38);
  CHECK(owner_reads_after_write(reinterpret_cast<e4m3*>(&byte), &byte, e4m3{0xB8}) == 0xB8);
}

TEST_CASE("make_bf16_view, make_f16_view, make_e4m3_view: the owner's memory, const where the owner's is", "[view]") {
  std::vector<std::uint16_t> words{0x3F80, 0x4000, 0xBF80, 0};
  const auto bf = make_bf16_view(words, 2, 2);
  REQUIRE(bf);
  STATIC_CHECK(std::is_same_v<decltype(bf), const result<dense_view<bf16>>>);
  CHECK(static_cast<void*>(bf->data) == words.data());
  CHECK((bf->rows == 2 && bf->cols == 2 && bf->stride == 2));
  CHECK(decode(bf->row(0)[1]) == 2.0f);
  bf->row(1)[1] = bf16{0x4040};
  CHECK(words[3] == 0x4040);

  const std::vector<std::uint16_t> halves{0x3C00, 0xC000};
  const auto f = make_f16_view(halves, 1, 2);
  REQUIRE(f);
  STATIC_CHECK(std::is_same_v<decltype(f), const result<dense_view<const f16>>>);
  CHECK(decode(f->row(0)[1]) == -2.0f);

  std::uint8_t bytes[3]{0x38, 0x40, 0x7E};
  const auto e = make_e4m3_view(std::span<const std::uint8_t>(bytes), 3, 1);
  REQUIRE(e);
  STATIC_CHECK(std::is_same_v<decltype(e), const result<dense_view<const e4m3>>>);
  CHECK(decode(e->row(2)[0]) == 448.0f);
  CHECK(make_e4m3_view(bytes, 2, 2).error().code == errc::buffer_too_small);
  CHECK(make_bf16_view(words, -1, 2).error().code == errc::negative_size);
}

#if defined(__FLT16_MAX__)
TEST_CASE("make_f16_view: the compiler's own type", "[view]") {
  __extension__ typedef _Float16 half;
  std::vector<half> numbers{half(1.0f), half(-0.5f)};
  const auto view = make_f16_view(numbers, 1, 2);
  REQUIRE(view);
  CHECK((view->row(0)[0] == f16{0x3C00} && view->row(0)[1] == f16{0xB800}));
}
#endif
