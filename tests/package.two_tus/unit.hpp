// What each unit gives to main: the same work, and where its tables are. No container here or in the units: what the
// standard library's templates become in the newer unit is the consumer's affair, and not what is tried.
#pragma once

#include <cstdint>

inline constexpr std::int64_t rows = 48, cols = 96;

struct outcome {
  bool done;
  std::uint8_t codes[rows * cols / 2], scales[rows * cols / 32];
  std::uint8_t saved[rows * cols / 32 * 17];
  float product[rows * rows];
  const void* table;
};

namespace newer {
void work(outcome& o);
}
namespace base {
void work(outcome& o);
}
namespace optimised {
void work(outcome& o);
}
namespace plain {
void work(outcome& o);
}
namespace next {
void work(outcome& o);
}
