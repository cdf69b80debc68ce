// tools/mxfp4/main.cpp -- the program mxfp4: commands, exit codes, signals.
// SPDX-License-Identifier: Apache-2.0
//
// Exit codes: 0 well, 1 bad input or a file that cannot be read or written, 2 bad usage.
// The report goes to standard output, everything else to standard error.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>

#include "command.hpp"
#include "io/shown.hpp"
#include "mxfp4/io/file.hpp"
#include "terminal.hpp"

namespace {

volatile std::sig_atomic_t stop_signal = 0;

constexpr int exit_bad_input = 1;

void print_error(const char* sentence) {
  using namespace mxfp4::tools;
  std::fprintf(stderr, "%s %s\n", coloured("mxfp4:", colour::error, STDERR_FILENO).c_str(), sentence);
}

/// While there is something half written, the work ends at the next stop_requested() and takes it away; else at once,
/// whatever the program does: it reads, plans, compares.
extern "C" void on_stop_signal(int signal) {
  stop_signal = signal;
  if (mxfp4::io::unfinished_output::count() > 0) return;
  constexpr char text[] = "mxfp4: interrupted, nothing was written in part\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, sizeof text - 1);  // the one way to print here
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

/// A descriptor of the three that a caller has closed would be given to the first file that is opened, and the report
/// be printed into a checkpoint. They are opened so that reading and writing them fails, as it does where they are
/// closed.
void open_standard_streams() {
  for (int fd = 0; fd < 3; ++fd)  // the lowest that is free is the one that open returns
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF && ::open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
      std::_Exit(exit_bad_input);
}

void install_signal_handlers() {
  std::signal(SIGXFSZ, SIG_IGN);  // a file over the limit is an error of write(), with a message
  for (const int signal : {SIGINT, SIGTERM, SIGHUP})
    if (std::signal(signal, on_stop_signal) == SIG_IGN) std::signal(signal, SIG_IGN);  // nohup stays nohup
}

}  // namespace

bool mxfp4::tools::stop_requested() noexcept { return stop_signal != 0; }

int main(int argc, char** argv) {
  open_standard_streams();
  install_signal_handlers();
  mxfp4::tools::program app("mxfp4",
                            "Weights to and from MXFP4: 32 FP4 codes and one power-of-two scale, 4.25 bits per weight",
                            mxfp4::tools::version_text);
  app.footer("Exit codes: 0 well, 1 bad input, 2 bad usage. Each command has its own --help.");
  mxfp4::tools::add_plan(app);
  mxfp4::tools::add_quantize(app);
  mxfp4::tools::add_merge(app);
  mxfp4::tools::add_index(app);
  mxfp4::tools::add_dequantize(app);
  mxfp4::tools::add_verify(app);
  mxfp4::tools::add_report(app);
  mxfp4::tools::add_card(app);
  mxfp4::tools::add_convert(app);
  mxfp4::tools::add_inspect(app);
#if defined(MXFP4_TOOLS_MODEL)
  mxfp4::tools::add_compare(app);
  mxfp4::tools::add_run(app);
#endif
  mxfp4::tools::add_recipes(app);
  mxfp4::tools::add_encode(app);
  mxfp4::tools::add_decode(app);
  mxfp4::tools::add_completion(app);
  mxfp4::tools::add_man(app);
  try {
    return app.run(argc, argv);
  } catch (const mxfp4::io::file_error& error) {
    print_error(error.what());
    if (!error.interrupted()) return exit_bad_input;
    const int signal = stop_signal;
    std::signal(signal, SIG_DFL);
    std::raise(signal);  // so that the shell sees what ended us
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "mxfp4: out of memory: give it more, or less work at a time\n");
  } catch (const std::exception& error) {
    print_error(mxfp4::io::shown(error.what()).c_str());
  }
  return exit_bad_input;
}
