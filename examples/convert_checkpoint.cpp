// examples/convert_checkpoint.cpp -- an MXFP4 checkpoint in another form, with a progress callback that can stop it.
// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <cstdio>
#include <exception>
#include <mxfp4/checkpoint/convert.hpp>

int main(int count, char** arguments) try {
  if (count != 3) return std::puts("convert_checkpoint DIR OUT.gguf"), 2;
  mxfp4::checkpoint::convert_options options{.to = mxfp4::checkpoint::checkpoint_form::gguf};
  options.progress = [last = std::uint64_t{0}](std::uint64_t done, std::uint64_t total) mutable {
    if (done < total && done - last < total / 20) return;  // some twenty lines in all
    last = done;
    std::printf("%3.0f %%\n", total == 0 ? 100.0 : 100.0 * static_cast<double>(done) / static_cast<double>(total));
  };
  const auto report = mxfp4::checkpoint::convert_checkpoint(arguments[1], arguments[2], options);
  std::printf("%lld matrices, %llu bytes\n", static_cast<long long>(report.matrices),
              static_cast<unsigned long long>(report.after.bytes));
} catch (const std::exception& error) {  // names the file, the tensor, its value, and what was expected
  return std::printf("%s\n", error.what()), 1;
}
