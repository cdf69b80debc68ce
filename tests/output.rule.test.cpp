// tests/output.rule.test.cpp -- what every command does with an output that is there, is an input, or was begun.
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <filesystem>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint.support.hpp"
#include "io/temporary.hpp"

namespace {
namespace fs = std::filesystem;
using namespace mxfp4::test;
using namespace mxfp4::io;
using Catch::Matchers::ContainsSubstring;
using strings = std::vector<std::string>;

constexpr const char* left_over = ".tmp-0123456789abcdef";

[[nodiscard]] tensor expert(int number) {
  const std::string name = "model.layers.0.mlp.experts." + std::to_string(number) + ".w1.weight";
  return {{name, dtype::f32, {2, 32}}, bytes_of(some_weights(64, static_cast<std::uint32_t>(number + 1)))};
}

/// A source in two shards, what quantize makes of it, and raw files.
struct sources {
  scratch_folder folder;
  std::string in = folder / "in", mxfp4 = folder / "mxfp4", raw = folder / "raw", codes = folder / "codes",
              scales = folder / "scales";

  sources() {
    write_checkpoint(in, {{"a.safetensors", {expert(0)}}, {"b.safetensors", {expert(1)}}});
    done({"quantize", in, mxfp4});
    write_text(raw, bytes_of(some_weights(64)));
    done({"encode", raw, "--recipe", "ocp", "--packed", codes, "--scale", scales});
  }
};

void refused(const strings& arguments, const std::string& message) {
  CAPTURE(arguments);
  const outcome o = mxfp4_run(arguments);
  CHECK(o.code == 1);
  CHECK_THAT(o.err, ContainsSubstring(message));
}

[[nodiscard]] strings with(strings arguments, const strings& more) {
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

struct file_command {
  strings arguments;  ///< with an output called out
  std::string input;  ///< a file that it reads
};

[[nodiscard]] std::vector<file_command> file_commands(const sources& s, const std::string& out) {
  return {{{"encode", s.raw, "--recipe", "ocp", "--packed", out, "--scale", s.folder / "other"}, s.raw},
          {{"encode", s.raw, "--recipe", "ocp", "--packed", s.folder / "other", "--scale", out}, s.raw},
          {{"decode", out, "--packed", s.codes, "--scale", s.scales}, s.scales},
          {{"quantize", s.in + "/a.safetensors", out}, s.in + "/a.safetensors"},
          {{"dequantize", s.mxfp4 + "/a.safetensors", out}, s.mxfp4 + "/a.safetensors"},
          {{"convert", s.mxfp4, out, "--to", "gguf"}, s.mxfp4 + "/config.json"},
          {{"convert", s.mxfp4 + "/a.safetensors", out, "--to", "gguf"}, s.mxfp4 + "/a.safetensors"}};
}

}  // namespace

TEST_CASE("outputs: none is an input, by whichever name", "[output]") {
  const sources s;
  const std::string out = s.folder / "out.safetensors";
  const auto before = tree(s.folder / "");
  for (const auto& [arguments, input] : file_commands(s, out))
    for (const bool symbolic : {false, true}) {
      CAPTURE(symbolic);
      if (symbolic) fs::create_symlink(input, out);
      else fs::create_hard_link(input, out);
      for (const strings& overwrite : {strings{}, strings{"--overwrite"}}) {
        const outcome o = mxfp4_run(with(arguments, overwrite));
        CAPTURE(arguments, overwrite, o.err);
        CHECK(o.code != 0);  // 2 where the command line alone shows it
        CHECK((o.err.find("is also the input") != std::string::npos ||
               o.err.find("are one file") != std::string::npos || o.err.find("inside the input") != std::string::npos));
      }
      fs::remove(out);
      CHECK(differences(before, tree(s.folder / "")) == strings{});
    }
  // A shard that is a link, as in the caches of the Hub: the file behind it is an input too.
  const std::string blob = s.folder / "blob";
  fs::rename(s.mxfp4 + "/a.safetensors", blob);
  fs::create_symlink(blob, s.mxfp4 + "/a.safetensors");
  refused({"convert", s.mxfp4, blob, "--to", "gguf", "--overwrite"}, "blob: is also the input");
  CHECK(read_text(blob) == before.at("mxfp4/a.safetensors"));
}

TEST_CASE("outputs: card and report spare the files that they read", "[output]") {
  const sources s;
  const strings card = {"card", s.mxfp4, "--base-model", "a/b", "--overwrite"};
  const auto before = tree(s.mxfp4);
  for (const char* const input : {"config.json", "mxfp4_report.json", "b.safetensors"}) {
    fs::create_hard_link(s.mxfp4 + "/" + input, s.mxfp4 + "/README.md");
    refused(card, "README.md: is also the input");
    fs::remove(s.mxfp4 + "/README.md");
  }
  const std::string csv = s.folder / "csv";
  fs::create_directory(csv);
  fs::create_hard_link(s.mxfp4 + "/mxfp4_report.json", csv + "/experts.csv");
  refused({"report", s.mxfp4, csv, "--overwrite"}, "experts.csv: is also the input");
  for (const char* const inside : {"", "/errors", "/a/../errors"})
    refused({"report", s.mxfp4, s.mxfp4 + inside}, "the input " + s.mxfp4 + ": name another place");
  CHECK(differences(before, tree(s.mxfp4)) == strings{});
}

TEST_CASE("outputs: what is there is replaced with --overwrite only", "[output]") {
  const sources s;
  const std::string out = s.folder / "out.safetensors";
  const auto leaves_nothing = [&s](const strings& more) {
    strings names = {"codes", "in", "mxfp4", "raw", "scales"};
    names.insert(names.end(), more.begin(), more.end());
    std::sort(names.begin(), names.end());
    CHECK(s.folder.names() == names);
  };
  for (const auto& [arguments, input] : file_commands(s, out)) {
    CAPTURE(arguments);
    write_text(out, "precious");
    refused(arguments, "out.safetensors: is there already: name another output, or give --overwrite");
    CHECK(read_text(out) == "precious");
    leaves_nothing({"out.safetensors"});
    done(with(arguments, {"--overwrite"}));
    const std::string written = read_text(out);
    CHECK(written != "precious");
    fs::remove(out);
    fs::remove(s.folder / "other");
    fs::create_symlink("nowhere", out);  // a link that leads nowhere is there too
    refused(arguments, "out.safetensors: is there already");
    fs::remove(out);
    leaves_nothing({});
    done(arguments);
    CHECK(read_text(out) == written);
    fs::remove(out);
    fs::remove(s.folder / "other");
  }
}

TEST_CASE("outputs: report and card replace a link and not what it leads to", "[output]") {
  const sources s;
  const std::string csv = s.folder / "csv", elsewhere = write_text(s.folder / "elsewhere", "precious");
  const strings report = {"report", s.mxfp4, csv}, card = {"card", s.mxfp4, "--base-model", "a/b"};
  fs::create_directory(csv);
  write_text(csv + "/notes.txt", "mine");
  for (const auto& [arguments, file] : {std::pair{report, csv + "/experts.csv"}, {card, s.mxfp4 + "/README.md"}}) {
    fs::create_symlink(elsewhere, file);
    refused(arguments, "is there already");
    done(with(arguments, {"--overwrite"}));
    CHECK(fs::is_regular_file(fs::symlink_status(file)));
    refused(arguments, "is there already");
  }
  CHECK(read_text(elsewhere) == "precious");
  CHECK(read_text(csv + "/notes.txt") == "mine");
}

TEST_CASE("outputs: pipes and devices are written through", "[output]") {
  const sources s;
  const std::string out = s.folder / "out", fifo = s.folder / "fifo";
  done({"decode", out, "--packed", s.codes, "--scale", s.scales});
  const std::string numbers = read_text(out);

  const outcome piped =
      run({"/bin/sh", "-c",
           "'" MXFP4_PROGRAM "' decode /dev/stdout --packed '" + s.codes + "' --scale '" + s.scales + "' | cat"});
  CHECK(piped.out == numbers);  // and not the report, which goes to standard error
  CHECK_THAT(piped.err, ContainsSubstring("2 blocks to f32"));

  write_text(out, "before ");  // what a shell has opened is not replaced behind its back
  const outcome appended = run(
      {"/bin/sh", "-c",
       "'" MXFP4_PROGRAM "' decode /dev/fd/1 --packed '" + s.codes + "' --scale '" + s.scales + "' >> '" + out + "'"});
  CHECK(appended.code == 0);
  CHECK(read_text(out) == "before " + numbers);

  REQUIRE(mkfifo(fifo.c_str(), 0600) == 0);
  std::string got;
  std::thread reader([&] { got = read_text(fifo); });
  const outcome written = mxfp4_run({"quantize", s.in + "/a.safetensors", fifo});
  reader.join();
  CHECK(written.code == 0);
  done({"quantize", s.in + "/a.safetensors", s.folder / "file"});
  CHECK(got == read_text(s.folder / "file"));  // whose tensors are not written in the order of the file
  CHECK(fs::is_fifo(fifo));
  done({"dequantize", s.mxfp4 + "/a.safetensors", "/dev/null"});
  CHECK(fs::is_character_file("/dev/null"));
  CHECK(s.folder.names() == strings{"codes", "fifo", "file", "in", "mxfp4", "out", "raw", "scales"});
}

TEST_CASE("outputs: leftovers of a killed run go, what is being written stays", "[output]") {
  const sources s;
  const std::string out = s.folder / "out.safetensors", left = out + left_over;
  const strings others = {out + ".tmp-mine", out + ".tmp-0123456789ABCDEF", out + left_over + "0"};
  for (const std::string& name : others) write_text(name, "mine");
  const std::string other_left = write_text(s.folder / "other" + left_over, "of another output");
  for (const auto& [arguments, input] : file_commands(s, out)) {
    if (arguments[0] == "encode") continue;
    CAPTURE(arguments);
    write_text(left, "half");
    {
      const int fd = open(left.c_str(), O_RDWR | O_CLOEXEC);
      REQUIRE(flock(fd, LOCK_EX | LOCK_NB) == 0);
      refused(arguments, "out.safetensors: is being written by another process: wait for its end");
      CHECK(fs::exists(left));
      close(fd);
    }
    done(arguments);
    CHECK_FALSE(fs::exists(left));
    fs::remove(out);
  }
  for (const std::string& name : others) CHECK(read_text(name) == "mine");
  CHECK(read_text(other_left) == "of another output");

  // Directories that appear at once.
  const std::string folder = s.folder / "made";
  for (const strings& arguments :
       {strings{"dequantize", s.mxfp4, folder}, strings{"convert", s.mxfp4, folder, "--to", "compressed-tensors"}}) {
    CAPTURE(arguments);
    fs::create_directories(folder + left_over + "/docs");
    write_text(folder + left_over + "/docs/x", "half");
    {
      const int fd = open((folder + left_over).c_str(), O_RDONLY | O_CLOEXEC);
      REQUIRE(flock(fd, LOCK_EX | LOCK_NB) == 0);
      refused(arguments, "made: is being written by another process");
      CHECK(fs::exists(folder + left_over + "/docs/x"));
      close(fd);
    }
    done(arguments);
    CHECK_FALSE(fs::exists(folder + left_over));
    fs::remove_all(folder);
  }
}

TEST_CASE("outputs: in the working folder, without its name", "[output]") {
  const sources s;
  const fs::path here = fs::current_path();
  fs::current_path(s.folder / "");
  write_text(std::string("out") + left_over, "half");
  const strings decode = {"decode", "out", "--packed", "codes", "--scale", "scales"};
  const outcome o = mxfp4_run(decode), again = mxfp4_run(decode);
  const outcome folder = mxfp4_run({"dequantize", "mxfp4", "made"});
  fs::current_path(here);
  INFO(o.err << folder.err);
  CHECK(o.code == 0);
  CHECK(folder.code == 0);
  CHECK_THAT(again.err, ContainsSubstring("out: is there already"));
  CHECK(s.folder.names() == strings{"codes", "in", "made", "mxfp4", "out", "raw", "scales"});
}

TEST_CASE("outputs: a kill between two renames is no output that is there", "[output]") {
  const sources s;
  const std::string codes = s.folder / "c", scales = s.folder / "s";
  const strings encode = {"encode", s.raw, "--recipe", "ocp", "--packed", codes, "--scale", scales};
  fs::copy_file(s.codes, codes);  // the first has its name, the second has not
  fs::copy_file(s.scales, scales + left_over);
  done(encode);
  CHECK(read_text(scales) == read_text(s.scales));
  CHECK_FALSE(fs::exists(scales + left_over));

  fs::remove(scales);
  refused(encode, "c: is there already");  // nothing says that a run of ours wrote it
  fs::copy_file(s.scales, scales + left_over);
  write_text(codes, "precious");
  refused(encode, "c: is there already");  // nor is it what that run would have written
  CHECK(read_text(codes) == "precious");
  CHECK_FALSE(fs::exists(scales));

  const std::string csv = s.folder / "csv";
  done({"report", s.mxfp4, csv});
  const auto expected = tree(csv);
  fs::rename(csv + "/scales.csv", csv + "/scales.csv" + left_over);
  done({"report", s.mxfp4, csv});
  CHECK(differences(expected, tree(csv)) == strings{});
}

TEST_CASE("outputs: two that belong together, one of which cannot be", "[output]") {
  const scratch_folder folder;
  write_text(folder / "a", "old");
  {
    output_file a = output_file::create(folder / "a").value(), b = output_file::create(folder / "b").value();
    fs::create_directory(folder / "b");
    CHECK_THROWS_WITH(output_file::commit_all({&a, &b}).value(), ContainsSubstring("cannot rename"));
  }
  CHECK(folder.names() == strings{"a", "b"});  // a was there before: it is not taken away
}

TEST_CASE("outputs: a file that appears while its output is written stays", "[output]") {
  const scratch_folder folder;
  for (const char* const name : {"file", "folder", "link"}) {
    CAPTURE(name);
    const std::string path = folder / name;
    output_file out = output_file::create(path, {}, existing_file::refuse).value();
    out.write(0, std::as_bytes(std::span(std::string_view("new")))).value();
    if (name == std::string("file")) write_text(path, "old");
    if (name == std::string("folder")) fs::create_directory(path);
    if (name == std::string("link")) fs::create_symlink("nowhere", path);
    CHECK_THROWS_WITH(out.commit().value(), ContainsSubstring("is there already"));
  }
  CHECK(read_text(folder / "file") == "old");
  CHECK(folder.names() == strings{"file", "folder", "link"});
}
