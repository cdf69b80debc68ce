// tests/cuda/emulator/wgmma.hpp -- wgmma by the text of the PTX ISA: descriptors, fragments, and what comes when.
// SPDX-License-Identifier: Apache-2.0
//
// A wgmma is a rendezvous of four warps that only starts it. Each warp's rows are multiplied at the wait that ends the
// group: A's registers and shared memory are read then, and D is NaN until then. What hardware would leave undefined is
// a fault: registers that no wgmma_fence has covered, or that change while they are in use; shared memory that has no
// proxy fence behind it, or is written while in use.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>

#include "cuda/emulator/arithmetic.hpp"
#include "cuda/emulator/block.hpp"
#include "mxfp4/core/version.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::emulator {

inline constexpr std::uint32_t poisoned_register = 0x7FC0DEADu;  // a NaN

struct wgmma_call {
  float* d;
  const std::uint32_t* a;
  std::uint64_t b;
};

/// Where each piece of B is: the canonical layouts of the matrix descriptor, K-major.
[[nodiscard]] inline std::vector<std::size_t> operand_pieces(std::uint64_t bits, int columns) {
  const auto field = [bits](int at) { return static_cast<std::size_t>(bits >> at & 0x3FFFu) << 4; };
  const std::size_t address = field(0), leading = field(16), stride = field(32);
  if ((bits & 0x3FF1C000C000C000u) != 0) throw fault("wgmma: the descriptor has bits outside its fields");
  if ((bits >> 49 & 7u) != 0) throw fault("wgmma: the descriptor's base offset is not 0, expected an aligned pattern");
  const auto order = static_cast<int>(bits >> 62);
  std::vector<std::size_t> pieces;
  if (order == 0) {
    for (int n = 0; n < columns; ++n)
      for (std::size_t p = 0; p < 2; ++p)
        pieces.push_back(address + static_cast<std::size_t>(n / 8) * stride + static_cast<std::size_t>(n % 8) * 16 +
                         p * leading);
    return pieces;
  }
  const std::size_t row = order == 1 ? 128 : order == 2 ? 64 : 32, pattern = 8 * row;
  if (address % pattern + 32 > row)
    throw fault("wgmma: the operand begins " + std::to_string(address % pattern) + " bytes past a multiple of " +
                std::to_string(pattern) + ", expected at most " + std::to_string(row - 32));
  if (stride % pattern != 0)
    throw fault("wgmma: the stride is " + std::to_string(stride) + " bytes, expected a multiple of " +
                std::to_string(pattern));
  for (int n = 0; n < columns; ++n)
    for (std::size_t p = 0; p < 2; ++p) {
      const std::size_t at =
          address + static_cast<std::size_t>(n / 8) * stride + static_cast<std::size_t>(n % 8) * row + p * 16;
      pieces.push_back(at ^ (at >> 7 & (row / 16 - 1)) << 4);
    }
  return pieces;
}

/// The words of an array of registers.
template <class T, std::size_t N>
[[nodiscard]] std::vector<std::uint32_t> words_of(const T (&registers)[N]) {
  static_assert(sizeof(T) == 4);
  std::vector<std::uint32_t> words(N);
  std::memcpy(words.data(), registers, sizeof registers);
  return words;
}
/// f(array) for each array of registers in arrays of arrays.
template <class T, std::size_t N, class F>
void for_each_array(T (&registers)[N], F&& f) {
  if constexpr (std::is_array_v<T>) {
    for (auto& inner : registers) for_each_array(inner, f);
  } else {
    f(registers);
  }
}

inline void check_fenced(const wgmma_registers& r, const void* registers, std::size_t count, const char* which) {
  const auto found = r.fenced.find(registers);
  if (found == r.fenced.end())
    throw fault(std::string("wgmma: no wgmma_fence since the registers of ") + which + " were last free to change");
  if (found->second.size() < count || std::memcmp(found->second.data(), registers, 4 * count) != 0)
    throw fault(std::string("wgmma: the registers of ") + which + " have changed since wgmma_fence");
}

inline void start_wgmma(float* d, const std::uint32_t* a, std::uint64_t b, int columns, bool accumulate,
                        double (*value_of)(std::uint32_t)) {
  wgmma_call mine{d, a, b};
  running->meet_warpgroup("wgmma", mine, [=](const gathered<wgmma_call>& calls) {
    block& owner = *running;
    const int first = owner.thread_index() / 128 * 128, count = columns / 2;
    auto operand = std::make_shared<wgmma_operand>();
    operand->columns = columns;
    operand->pieces = operand_pieces(b, columns);
    for (const std::size_t piece : operand->pieces)
      owner.shared.begin_wgmma(piece, 16, 4, owner.for_all(), [&owner](int thread, std::uint32_t fences) {
        return owner.proxy_fenced(thread, fences);
      });
    for (int warp = 0; warp < 4; ++warp) {
      wgmma_operation operation{operand, value_of, accumulate, {}, {}, {}};
      for (int lane = 0; lane < 32; ++lane) {
        const int i = 32 * warp + lane;
        const auto l = static_cast<std::size_t>(lane);
        const wgmma_call& call = calls[i];
        wgmma_registers& r = owner.threads[static_cast<std::size_t>(first + i)].registers;
        if (call.b != b) throw fault("wgmma: the threads' descriptors differ");
        check_fenced(r, call.a, 4, "A");
        if (!r.under_way.contains(call.d)) {
          check_fenced(r, call.d, static_cast<std::size_t>(count), "D");
          r.under_way[call.d].value.assign(call.d, call.d + count);
          for (int c = 0; c < count; ++c) call.d[c] = std::bit_cast<float>(poisoned_register);
        }
        ++r.under_way[call.d].wgmmas;
        operation.d[l] = call.d;
        operation.a[l] = call.a;
        std::memcpy(operation.a_at_start[l].data(), call.a, 16);
      }
      owner.wgmmas(first / 32 + warp).open.push_back(std::move(operation));
    }
  });
}

/// The product of one warp's rows.
inline void end_wgmma(block& owner, int warp, const wgmma_operation& operation) {
  wgmma_operand& b = *operation.b;
  if (b.value.empty())
    for (const std::size_t piece : b.pieces) {
      std::uint16_t elements[8];
      std::memcpy(elements, owner.shared.data() + piece, 16);
      for (const std::uint16_t e : elements) b.value.push_back(operation.value_of(e));
    }
  for (const std::size_t piece : b.pieces) owner.shared.end_wgmma(piece, 16, owner.here());
  double a[16][16];
  for (std::size_t lane = 0; lane < 32; ++lane) {
    if (std::memcmp(operation.a[lane], operation.a_at_start[lane].data(), 16) != 0)
      throw fault("wgmma: a register of A changed while the wgmma was under way");
    const std::size_t g = lane / 4, t = lane % 4;
    for (std::size_t r = 0; r < 4; ++r)
      for (std::size_t h = 0; h < 2; ++h)
        a[g + 8 * (r & 1)][2 * t + h + 8 * (r >> 1)] = operation.value_of(operation.a[lane][r] >> (16 * h) & 0xFFFFu);
  }
  for (std::size_t lane = 0; lane < 32; ++lane) {
    const std::size_t g = lane / 4, t = lane % 4;
    wgmma_registers& r = owner.threads[static_cast<std::size_t>(32 * warp) + lane].registers;
    auto& accumulator = r.under_way.at(operation.d[lane]);
    for (std::size_t i = 0; i < accumulator.value.size(); ++i) {
      const double* const row = a[g + 8 * (i >> 1 & 1)];
      const double* const column = b.value.data() + 16 * (8 * (i / 4) + 2 * t + (i & 1));
      double sum = operation.accumulate ? static_cast<double>(accumulator.value[i]) : 0.0;
      for (std::size_t k = 0; k < 16; ++k) sum += row[k] * column[k];
      accumulator.value[i] = static_cast<float>(sum);
    }
    r.fenced.erase(operation.a[lane]);
    if (--accumulator.wgmmas > 0) continue;
    for (std::size_t i = 0; i < accumulator.value.size(); ++i) {
      float& d = operation.d[lane][i];
      if (std::bit_cast<std::uint32_t>(d) != poisoned_register)
        throw fault("wgmma: a register of D was written while the wgmma was under way");
      d = accumulator.value[i];
    }
    r.fenced.erase(operation.d[lane]);
    r.under_way.erase(operation.d[lane]);
  }
}

}  // namespace mxfp4::cuda::emulator

namespace mxfp4::inline MXFP4_VERSION_NS::cuda::device {

[[nodiscard]] inline std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(static_cast<const std::byte*>(p) - detail::here().shared.data());
}

inline void async_proxy_fence() { detail::here().proxy_fence(); }

template <class... Registers>
void wgmma_fence(Registers&... registers) {
  using namespace emulator;
  block& b = detail::here();
  [[maybe_unused]] const auto cover = [&b](auto& array) {
    if (!b.self().registers.under_way.contains(reinterpret_cast<const float*>(array)))
      b.self().registers.fenced[array] = words_of(array);
  };
  (for_each_array(registers, cover), ...);
  int nothing = 0;
  b.meet_warp("wgmma_fence", nothing, [](auto&&) {});
}

inline void wgmma_commit() {
  int nothing = 0;
  emulator::block& b = detail::here();
  b.meet_warp("wgmma_commit", nothing, [&b](auto&&) {
    emulator::wgmma_queue& queue = b.wgmmas(b.thread_index() / 32);
    queue.groups.push_back(std::move(queue.open));
    queue.open.clear();
  });
}

template <int Pending, class... Registers>
void wgmma_wait(Registers&... registers) {
  using namespace emulator;
  block& b = detail::here();
  int nothing = 0;
  b.meet_warp("wgmma_wait", nothing, [&b](auto&&) {
    const int warp = b.thread_index() / 32;
    auto& groups = b.wgmmas(warp).groups;
    while (groups.size() > Pending) {
      for (const wgmma_operation& operation : groups.front()) end_wgmma(b, warp, operation);
      groups.pop_front();
    }
  });
  [[maybe_unused]] const auto check = [&b](auto& array) {
    if (b.self().registers.under_way.contains(reinterpret_cast<const float*>(array)))
      throw fault("wgmma_wait: registers that are still under way are about to be used");
  };
  (for_each_array(registers, check), ...);
}

template <bool Accumulate, std::size_t Registers>
void wgmma_bf16(float (&d)[Registers], const std::uint32_t (&a)[4], shared_operand b) {
  static_assert(Registers == 32 || Registers == 64);
  emulator::start_wgmma(d, a, b.bits, 2 * static_cast<int>(Registers), Accumulate, emulator::bf16_value);
}
template <bool Accumulate, std::size_t Registers>
void wgmma_f16(float (&d)[Registers], const std::uint32_t (&a)[4], shared_operand b) {
  static_assert(Registers == 32 || Registers == 64);
  emulator::start_wgmma(d, a, b.bits, 2 * static_cast<int>(Registers), Accumulate, emulator::f16_value);
}

}  // namespace mxfp4::cuda::device
