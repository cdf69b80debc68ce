// tools/mxfp4/index.cpp -- mxfp4 index: the index of a directory's shards, made from their headers.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/index.hpp"

#include "command.hpp"
#include "report.hpp"

namespace mxfp4::tools {

using namespace io;
using namespace checkpoint;

namespace {

struct index_command {
  std::string directory;
  bool overwrite = false, json = false;

  void describe(command_line& command) {
    command.add_option("DIR", directory, "A directory with .safetensors files").required().type_name("DIR");
    command.add_flag("--overwrite", overwrite, "Replace the index that is there");
    command.footer(
        "Every .safetensors file of DIR is in the new index: take out those that do not belong to the model.");
  }
};

void run(const index_command& command) {
  const index_summary made = rebuild_index(command.directory, command.overwrite, stop_requested).value();
  if (command.json)
    print(ordered_json{{"command", "index"},
                       {"directory", command.directory},
                       {"shards", made.shards},
                       {"tensors", made.tensors},
                       {"total_size", made.total_size}});
  else
    print(command.directory + "/" + index_file_name + ": " + count_text(made.tensors, "tensor") + " in " +
          count_text(std::ssize(made.shards), "file") + ", " + size_text(made.total_size) + "\n");
}

}  // namespace

void add_index(program& app) {
  add_command<index_command>(app, "index", "Write the index of a directory's .safetensors files", run);
}

}  // namespace mxfp4::tools
