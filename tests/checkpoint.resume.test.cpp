// tests/checkpoint.resume.test.cpp -- mxfp4 quantize DIR that is killed, disturbed, spread over processes.
// SPDX-License-Identifier: Apache-2.0
//
// A run is held at a known point without a hook in the program: its log goes into a pipe of one page, and a program
// that logs more than that waits until somebody reads. What has not been logged cannot have been done.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "checkpoint.support.hpp"

namespace {
namespace fs = std::filesystem;
using namespace mxfp4::test;
using namespace mxfp4::io;
using Catch::Matchers::ContainsSubstring;
using nlohmann::json;
using strings = std::vector<std::string>;

/// `mxfp4 ... --json` that goes no further than its log is read, but for one page.
class held_run {
 public:
  static constexpr int page = 4096;

  explicit held_run(strings arguments) {
    arguments.insert(arguments.begin(), MXFP4_PROGRAM);
    arguments.emplace_back("--json");
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    int ends[2];
    if (pipe(ends) != 0 || fcntl(ends[1], F_SETPIPE_SZ, page) != page) throw std::runtime_error("no pipe of a page");
    const std::string err = folder_ / "err";
    child_ = fork();
    if (child_ == 0) {
      dup2(ends[1], STDOUT_FILENO);
      dup2(open(err.c_str(), O_WRONLY | O_CREAT, 0600), STDERR_FILENO);
      close(ends[0]);
      close(ends[1]);
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(ends[1]);
    log_ = fdopen(ends[0], "r");
    std::setvbuf(log_, nullptr, _IONBF, 0);  // no line is taken before it is asked for
  }
  ~held_run() {
    if (child_ > 0) static_cast<void>(end(SIGKILL));
    std::fclose(log_);
  }
  held_run(const held_run&) = delete;
  held_run& operator=(const held_run&) = delete;

  /// The next event; null at the end of the log.
  json next() {
    std::string line;
    for (int c = 0; (c = std::fgetc(log_)) != EOF && c != '\n';) line += static_cast<char>(c);
    return line.empty() ? json() : json::parse(line);
  }

  /// Reads until an event of this kind.
  json next(const std::string& kind) {
    json event = next();
    while (!event.is_null() && event["event"] != kind) event = next();
    return event;
  }

  /// Waits until no further event has come into the pipe for a while: the program is held. There must be a page of them
  /// to come. How many bytes that is depends on how much was taken from the page since it was empty last.
  void settle() const {
    constexpr int calm = 200, patience = 60'000;  // milliseconds; a slow machine or an emulated one
    int waiting = 0, quiet = 0;
    for (int waited = 0; quiet < calm && waited < patience; ++waited) {
      const int before = waiting;
      usleep(1000);
      REQUIRE(ioctl(fileno(log_), FIONREAD, &waiting) == 0);
      quiet = waiting > 0 && waiting == before ? quiet + 1 : 0;
    }
    REQUIRE(quiet == calm);
  }

  /// Sends a signal and returns the exit code, or 128 + the signal that ended it.
  int end(int signal) {
    kill(child_, signal);
    return wait();
  }
  /// Reads the rest of the log and returns the exit code.
  int finish() {
    while (!next().is_null()) continue;
    return wait();
  }
  std::string err() const { return read_text(folder_ / "err"); }

 private:
  int wait() {
    int state = 0;
    waitpid(std::exchange(child_, 0), &state, 0);
    return WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
  }

  scratch_folder folder_;
  pid_t child_ = 0;
  std::FILE* log_ = nullptr;
};

/// A model in small with many tensors, so that the log is many pages long, and what an undisturbed run makes of it.
struct example {
  scratch_folder folder;
  std::string in = folder / "in";
  std::map<std::string, std::string> expected;
  std::uint64_t bytes = 0;  // of its shards
  std::size_t events = 0;

  explicit example(int shards = 4) {
    const outcome o = run(
        {MXFP4_GENERATE, "--checkpoint", in, "--experts", "24", "--layers", "2", "--shards", std::to_string(shards)});
    INFO(o.err);
    REQUIRE(o.code == 0);
    // The result depends on nothing but the input, and that on nothing but the number of shards.
    static std::map<int, std::pair<std::map<std::string, std::string>, std::size_t>> results;
    if (!results.contains(shards)) {
      const outcome done = mxfp4_run({"quantize", in, folder / "expected", "--json"});
      INFO(done.err);
      REQUIRE(done.code == 0);
      results[shards] = {tree(folder / "expected"),
                         static_cast<std::size_t>(std::count(done.out.begin(), done.out.end(), '\n'))};
    }
    std::tie(expected, events) = results[shards];
    for (const auto& [name, content] : expected)
      if (name.ends_with(".safetensors")) bytes += content.size();
  }

  /// Bytes of shards in `out`, with those that have no name yet.
  static std::uint64_t bytes_in(const std::string& out) {
    std::uint64_t sum = 0;
    for (const auto& entry : fs::directory_iterator(out))
      if (entry.path().filename().string().find(".safetensors") != std::string::npos && entry.is_regular_file()) {
        struct stat info {};
        stat(entry.path().c_str(), &info);
        sum += static_cast<std::uint64_t>(info.st_blocks) * 512;
      }
    return sum;
  }

  /// Whatever has its name is whole; the index is not there.
  void check_unfinished(const std::string& out) const {
    const auto found = tree(out);
    CHECK_FALSE(found.contains("model.safetensors.index.json"));
    for (const auto& [name, content] : found)
      if (!name.starts_with(".mxfp4/") && name.find(".tmp-") == std::string::npos) {
        CAPTURE(name);
        REQUIRE(expected.contains(name));
        CHECK((expected.at(name) == content));
      }
  }

  /// A second run completes it, byte for byte.
  json check_resumed(const std::string& out) const {
    const outcome o = mxfp4_run({"quantize", in, out, "--json"});
    INFO(o.err);
    REQUIRE(o.code == 0);
    CHECK(differences(expected, tree(out)) == strings{});
    return json::parse(o.out.substr(o.out.rfind('\n', o.out.size() - 2) + 1));
  }
};

void refused(const strings& arguments, const std::string& message) {
  CAPTURE(arguments);
  const outcome o = mxfp4_run(arguments);
  CHECK(o.code == 1);
  CHECK_THAT(o.err, ContainsSubstring(message));
}

}  // namespace

TEST_CASE("checkpoint: kill -9 at a dozen points, then again", "[checkpoint][kill]") {
  const example e;
  constexpr int points = 12;
  // The last point leaves more log than the pipe holds, so that every run is killed before its end. An event has more
  // than 60 bytes.
  const std::size_t last = e.events - held_run::page / 60;
  REQUIRE(last > 60);
  std::vector<std::uint64_t> written;
  for (int n = 0; n < points; ++n) {
    const std::string out = e.folder / ("out" + std::to_string(n));
    held_run run({"quantize", e.in, out});
    const std::size_t stop = 1 + (last - 1) * static_cast<std::size_t>(n) / (points - 1);
    for (std::size_t i = 0; i < stop; ++i) REQUIRE_FALSE(run.next().is_null());
    CHECK(run.end(SIGKILL) == 128 + SIGKILL);
    written.push_back(example::bytes_in(out));
    CAPTURE(n, stop, written.back());
    e.check_unfinished(out);
    e.check_resumed(out);
    fs::remove_all(out);
  }
  CAPTURE(written, e.bytes);
  CHECK(written.front() < e.bytes / 3);
  CHECK(written.back() > e.bytes / 2);
  CHECK(std::set<std::uint64_t>(written.begin(), written.end()).size() >= 6);
}

TEST_CASE("checkpoint: the same output killed again and again gets ready", "[checkpoint][kill]") {
  const example e;
  const std::string out = e.folder / "out";
  std::size_t kept = 0;
  int kills = 0;
  for (;; ++kills) {
    REQUIRE(kills < 20);
    held_run run({"quantize", e.in, out});
    const json start = run.next();
    CHECK(start["kept"] >= kept);
    kept = start["kept"];
    if (run.next("shard").is_null()) break;  // the last shard's event and the end may share a page
    static_cast<void>(run.end(SIGKILL));     // between the rename of a shard and the index
  }
  CHECK(kills >= 2);
  CHECK(differences(e.expected, tree(out)) == strings{});
}

TEST_CASE("checkpoint: killed between a shard's name and the index", "[checkpoint][kill]") {
  const example e;
  const std::string out = e.folder / "out";
  {
    held_run run({"quantize", e.in, out});
    CHECK(run.next("shard")["file"] == "model-00000-of-00005.safetensors");
    CHECK(run.end(SIGKILL) == 128 + SIGKILL);
  }
  e.check_unfinished(out);
  CHECK(fs::exists(out + "/model-00000-of-00005.safetensors"));
  struct stat before {
  }, after{};
  stat((out + "/model-00000-of-00005.safetensors").c_str(), &before);
  CHECK(e.check_resumed(out)["kept"] >= 1);
  stat((out + "/model-00000-of-00005.safetensors").c_str(), &after);
  CHECK(before.st_ino == after.st_ino);  // kept, not written again

  // All shards there, no index: what a kill right before the index leaves.
  fs::remove_all(out);
  for (const char* rank : {"0", "1"})
    REQUIRE(mxfp4_run({"quantize", e.in, out, "--rank", rank, "--world", "2"}).code == 0);
  e.check_unfinished(out);
  const json done = e.check_resumed(out);
  CHECK(done["kept"] == 4);
  CHECK(done["written"] == 0);
}

TEST_CASE("checkpoint: an unfinished result is no checkpoint", "[checkpoint][kill]") {
  const example e(2);
  const std::string out = e.folder / "out";
  REQUIRE(mxfp4_run({"quantize", e.in, out, "--rank", "0", "--world", "2"}).code == 0);
  const auto found = tree(out);  // with one shard it looks like the whole of a checkpoint of one file
  REQUIRE(std::count_if(found.begin(), found.end(), [](const auto& f) { return f.first.ends_with("safetensors"); }) ==
          1);
  const std::string message = out + "/.mxfp4: is there: the run of mxfp4 quantize that writes this checkpoint is not";
  refused({"inspect", out}, message);
  refused({"plan", out}, message);
  refused({"convert", out, e.folder / "other", "--to", "stacked"}, message);
  refused({"convert", out, e.folder / "other", "--to", "gguf"}, message);
  refused({"dequantize", out, e.folder / "other"}, message);
  refused({"quantize", out, e.folder / "other"}, message);
  refused({"card", out, "--base-model", "a/b"}, message);
  CHECK_FALSE(fs::exists(e.folder / "other"));
  const outcome verified = mxfp4_run({"verify", out});
  CHECK(verified.code == 1);
  CHECK_THAT(verified.out, ContainsSubstring("error: files: .mxfp4: is there: the run of mxfp4 quantize that writes"));
}

TEST_CASE("checkpoint: a report without its shard counts for nothing", "[checkpoint][kill]") {
  const example e;
  const std::string out = e.folder / "out";
  for (const char* rank : {"0", "1"})
    REQUIRE(mxfp4_run({"quantize", e.in, out, "--rank", rank, "--world", "2"}).code == 0);
  fs::remove(out + "/model-00001-of-00005.safetensors");
  CHECK(e.check_resumed(out)["written"] == 1);
}

TEST_CASE("checkpoint: SIGINT leaves whole files only", "[checkpoint][kill]") {
  const example e;
  const std::string out = e.folder / "out";
  held_run run({"quantize", e.in, out});
  static_cast<void>(run.next("shard"));
  run.settle();
  // The write that the signal meets may be held by the pipe: reading on lets the program see it.
  std::thread reader([&] {
    while (!run.next().is_null()) continue;
  });
  const int code = run.end(SIGINT);
  reader.join();
  CHECK(code == 128 + SIGINT);
  CHECK_THAT(run.err(), ContainsSubstring("interrupted, nothing was written"));
  e.check_unfinished(out);
  for (const auto& [name, content] : tree(out)) CHECK(name.find(".tmp-") == std::string::npos);
  e.check_resumed(out);
}

TEST_CASE("checkpoint: two runs at once do not write one shard", "[checkpoint]") {
  const example e;
  const std::string out = e.folder / "out";
  held_run first({"quantize", e.in, out});
  static_cast<void>(first.next("tensor"));
  refused({"quantize", e.in, out}, "is held by another process, which writes the same file: wait for its end");
  CHECK(first.finish() == 0);
  CHECK(differences(e.expected, tree(out)) == strings{});
}

TEST_CASE("checkpoint: an input that changes is noticed, and nothing is lost", "[checkpoint]") {
  const example e;
  const std::string out = e.folder / "out", shard = e.in + "/model-00001-of-00005.safetensors";
  REQUIRE(mxfp4_run({"quantize", e.in, out, "--rank", "0", "--world", "2"}).code == 0);
  const auto before = tree(out);
  const std::string bytes = read_text(shard);
  const auto time = fs::last_write_time(shard);

  refused({"quantize", e.in, out, "--recipe", "ocp"},
          "was begun differently: settings/recipe was \"compressed_tensors\" and is now \"ocp\": go on with the same");
  refused({"quantize", e.in, out, "--exclude", "w2", "--force"}, "settings/exclude was null and is now \"w2\"");
  refused({"quantize", e.in, out, "--others", "fp8"}, "settings/others was \"bf16\"");
  std::string other = bytes;  // a changed name: same size, same time
  other[other.find("experts")] = 'E';
  write_text(shard, other);
  fs::last_write_time(shard, time);
  CHECK(mxfp4_run({"quantize", e.in, out}).code == 1);
  write_text(shard, bytes);
  fs::last_write_time(shard, time);
  const std::string config = read_text(e.in + "/config.json");
  std::string new_config = config;
  new_config.insert(1, "\"new\": 1,");
  write_text(e.in + "/config.json", new_config);
  refused({"quantize", e.in, out}, "source/config was ");
  write_text(e.in + "/config.json", config);
  fs::rename(shard, shard + ".away");
  refused({"quantize", e.in, out}, "model-00001-of-00005.safetensors: is missing, the index has tensor");
  fs::rename(shard + ".away", shard);
  CHECK(differences(before, tree(out)) == strings{});
  e.check_resumed(out);

  // The complete result is no less safe.
  refused({"quantize", e.in, out, "--recipe", "ocp"}, "holds the result of another run: settings/recipe was ");
  CHECK(differences(e.expected, tree(out)) == strings{});
  REQUIRE(mxfp4_run({"quantize", e.in, out, "--recipe", "ocp", "--overwrite"}).code == 0);
  CHECK(differences(e.expected, tree(out)) != strings{});
  REQUIRE(mxfp4_run({"quantize", e.in, out, "--overwrite"}).code == 0);
  CHECK(differences(e.expected, tree(out)) == strings{});
  fs::remove(out + "/model-00001-of-00005.safetensors");
  refused({"quantize", e.in, out}, "model-00001-of-00005.safetensors: is missing, the index has tensor");
}

TEST_CASE("checkpoint: a source with new times is the same where its content is", "[checkpoint]") {
  const example e;
  const std::string out = e.folder / "out", copy = e.folder / "copy";
  REQUIRE(mxfp4_run({"quantize", e.in, out, "--rank", "0", "--world", "2"}).code == 0);
  fs::copy(e.in, copy, fs::copy_options::recursive);
  const auto before = tree(out);

  // A bit of one weight, in a shard that was read.
  const auto done = std::find_if(before.begin(), before.end(), [](const auto& file) {
    return file.first.starts_with("model-") && file.first.ends_with(".safetensors");
  });
  REQUIRE(done != before.end());
  const std::string shard = copy + "/" + done->first, bytes = read_text(shard);
  std::string other = bytes;
  other.back() = static_cast<char>(other.back() ^ 0x40);
  write_text(shard, other);
  refused({"quantize", copy, out}, "is not the source of what is in ");
  CHECK(differences(before, tree(out)) == strings{});

  write_text(shard, bytes);
  const outcome o = mxfp4_run({"quantize", copy, out, "--json"});
  CHECK(o.code == 0);
  CHECK_THAT(o.out, ContainsSubstring("\"kept\":2,"));
  CHECK(differences(e.expected, tree(out)) == strings{});
}

TEST_CASE("checkpoint: a weight changed behind an old time is noticed", "[checkpoint]") {
  const example e;
  const std::string out = e.folder / "out";
  REQUIRE(mxfp4_run({"quantize", e.in, out, "--rank", "0", "--world", "2"}).code == 0);
  for (const bool complete : {false, true}) {
    CAPTURE(complete);
    if (complete) REQUIRE(mxfp4_run({"quantize", e.in, out}).code == 0);
    const auto before = tree(out);
    const std::string shard = e.in + "/model-00001-of-00005.safetensors", bytes = read_text(shard);
    REQUIRE(before.contains("model-00001-of-00005.safetensors"));
    const auto time = fs::last_write_time(shard);
    std::string other = bytes;
    other.back() = static_cast<char>(other.back() ^ 0x40);
    write_text(shard, other);
    fs::last_write_time(shard, time);
    refused({"quantize", e.in, out}, "is not the source of what is in ");
    write_text(shard, bytes);
    fs::last_write_time(shard, time);
    CHECK(differences(before, tree(out)) == strings{});
  }
  CHECK(mxfp4_run({"quantize", e.in, out}).code == 0);
}

TEST_CASE("checkpoint: a complete result is that of one source", "[checkpoint]") {
  const example e;
  const std::string out = e.folder / "out", other = e.folder / "other";
  REQUIRE(mxfp4_run({"quantize", e.in, out}).code == 0);
  fs::copy(e.in, other, fs::copy_options::recursive);
  const outcome same = mxfp4_run({"quantize", other, out, "--json"});  // a copy has the same content
  CHECK(same.code == 0);
  CHECK_THAT(same.out, ContainsSubstring("\"complete\":true") && !ContainsSubstring("\"event\":\"tensor\""));
  const std::string shard = other + "/model-00001-of-00005.safetensors";
  std::string bytes = read_text(shard);
  bytes.back() = static_cast<char>(bytes.back() ^ 0x40);
  write_text(shard, bytes);
  refused({"quantize", other, out}, "is not the source of what is in ");
  CHECK(differences(e.expected, tree(out)) == strings{});
}

TEST_CASE("checkpoint: ranks with copies of the source", "[checkpoint][ranks]") {
  const example e;
  const std::string out = e.folder / "out", copy = e.folder / "copy", dated = e.folder / "dated";
  REQUIRE(mxfp4_run({"quantize", e.in, out, "--rank", "0", "--world", "2"}).code == 0);
  fs::copy(e.in, dated, fs::copy_options::recursive);  // as rsync -t: the time of modification, and no other
  for (const auto& file : fs::directory_iterator(e.in))
    fs::last_write_time(dated / file.path().filename(), fs::last_write_time(file.path()));
  const std::string manifest = read_text(out + "/.mxfp4/manifest.json");
  REQUIRE(mxfp4_run({"quantize", dated, out, "--rank", "0", "--world", "2"}).code == 0);
  CHECK(read_text(out + "/.mxfp4/manifest.json") == manifest);

  // One of those with another weight is noticed where its shard is there already.
  const std::string done = fs::exists(out + "/model-00001-of-00005.safetensors") ? "/model-00001-of-00005.safetensors"
                                                                                 : "/model-00002-of-00005.safetensors";
  REQUIRE(fs::exists(out + done));
  const std::string bytes = read_text(dated + done);
  std::string other = bytes;
  other.back() = static_cast<char>(other.back() ^ 0x40);
  write_text(dated + done, other);
  fs::last_write_time(dated + done, fs::last_write_time(e.in + done));
  refused({"quantize", dated, out, "--rank", "0", "--world", "2"}, "is not the source of what is in ");

  // Of other times: not beside one that writes, but after it, where what is done is the same.
  fs::copy(e.in, copy, fs::copy_options::recursive);
  fs::last_write_time(copy + "/model-00001-of-00005.safetensors", fs::file_time_type::clock::now());
  {
    const auto writing = file_lock::acquire(out + "/.mxfp4/run.lock", file_lock::kind::shared).value();
    refused({"quantize", copy, out, "--rank", "1", "--world", "2"},
            "is being written by another process, whose source has files of other times: wait for its end, or give");
  }
  REQUIRE(mxfp4_run({"quantize", copy, out, "--rank", "1", "--world", "2"}).code == 0);
  REQUIRE(mxfp4_run({"merge", out}).code == 0);
  CHECK(differences(e.expected, tree(out)) == strings{});
}

TEST_CASE("checkpoint: an input that changes while it is read", "[checkpoint]") {
  const example e;
  for (const bool shorten : {false, true}) {
    CAPTURE(shorten);
    // The last one; the one before it needs its block scales.
    const std::string out = e.folder / "out", name = "model-00004-of-00005.safetensors", shard = e.in + "/" + name;
    const std::string bytes = read_text(shard);
    const auto time = fs::last_write_time(shard);
    fs::remove_all(out);
    held_run run({"quantize", e.in, out});
    static_cast<void>(run.next("tensor"));
    run.settle();
    if (shorten) fs::resize_file(shard, 2000);
    else fs::last_write_time(shard, time + std::chrono::seconds(5));
    CHECK(run.finish() == 1);
    CHECK_THAT(run.err(),
               ContainsSubstring(name + ": ") && ContainsSubstring(shorten ? "it was shortened while it was read"
                                                                           : "it was changed while it was read"));
    e.check_unfinished(out);
    CHECK(fs::exists(out + "/model-00000-of-00005.safetensors"));
    write_text(shard, bytes);
    fs::last_write_time(shard, time);
    e.check_resumed(out);
  }
}

TEST_CASE("checkpoint: a file that cannot be written", "[checkpoint]") {
  const example e;
  const std::string out = e.folder / "out";
  std::uint64_t largest = 0;
  for (const auto& [name, content] : e.expected) largest = std::max<std::uint64_t>(largest, content.size());
  const outcome o = mxfp4_run({"quantize", e.in, out}, {largest - 1});
  CHECK(o.code == 1);
  CHECK_THAT(o.err, ContainsSubstring(".safetensors: cannot write ") && ContainsSubstring("File too large"));
  e.check_unfinished(out);
  for (const auto& [name, content] : tree(out)) CHECK(name.find(".tmp-") == std::string::npos);
  e.check_resumed(out);
}

/// In a mount namespace of its own, which the test after it makes.
TEST_CASE("checkpoint: a small disk", "[.small_disk]") {
  const example e;
  const std::string disk = e.folder / "disk", out = disk + "/out", ballast = disk + "/ballast";
  fs::create_directory(disk);
  constexpr std::uint64_t page = 4096, journal = 1 << 18;
  std::uint64_t needed = journal;
  for (const auto& [name, content] : e.expected) needed += (content.size() + page) / page * page;
  const std::string options = "size=" + std::to_string(needed);
  if (mount("none", disk.c_str(), "tmpfs", 0, options.c_str()) != 0) SKIP("no file system of our own");
  const auto fill = [&ballast](std::uint64_t most) {
    const int fd = open(ballast.c_str(), O_WRONLY | O_CREAT, 0600);
    const std::string text(page, 'x');
    std::uint64_t bytes = 0;
    while (bytes < most && write(fd, text.data(), page) > 0) bytes += page;
    close(fd);
    return bytes;
  };

  // Full before: the free space is asked for before anything is done.
  CHECK(fill(e.bytes / 2) >= e.bytes / 2);
  refused({"quantize", e.in, out}, "bytes free, the result needs");
  e.check_unfinished(out);
  fs::remove(ballast);

  // Full while it writes.
  held_run run({"quantize", e.in, out});
  static_cast<void>(run.next("tensor"));
  run.settle();
  CHECK(fill(e.bytes) < e.bytes);
  CHECK(run.finish() == 1);
  CHECK_THAT(run.err(), ContainsSubstring(": cannot write ") && ContainsSubstring(": No space left on device"));
  e.check_unfinished(out);
  for (const auto& [name, content] : tree(out)) CHECK(name.find(".tmp-") == std::string::npos);
  fs::remove(ballast);
  e.check_resumed(out);

  // A former result stays where the new one would not fit, and where nothing can be renamed into its place.
  const std::string larger = e.folder / "larger", small = e.folder / "small";
  REQUIRE(mxfp4::test::run({MXFP4_GENERATE, "--checkpoint", larger, "--experts", "96", "--layers", "2"}).code == 0);
  refused({"quantize", larger, out, "--overwrite"}, "bytes free, the result needs");
  CHECK(differences(e.expected, tree(out)) == strings{});
  REQUIRE(mxfp4_run({"quantize", e.in, small}).code == 0);
  refused({"dequantize", small, disk, "--overwrite"},
          "is where another file system is mounted, and cannot be replaced");
  CHECK(differences(e.expected, tree(out)) == strings{});
  umount(disk.c_str());
}

TEST_CASE("checkpoint: a full disk", "[checkpoint]") {
  const outcome o = run({"/usr/bin/env", "unshare", "-Urm", MXFP4_ITSELF, "[.small_disk]"});
  constexpr int skipped = 4;  // Catch2's code; env has 125 to 127 where there is no unshare
  if (o.code == skipped || o.code >= 125 || o.err.starts_with("unshare")) SKIP("no file system of our own: " << o.err);
  INFO(o.out);
  CHECK(o.code == 0);
}

TEST_CASE("checkpoint: ranks, and merge", "[checkpoint][ranks]") {
  const example e;
  const std::string out = e.folder / "out";
  refused({"merge", out}, "holds neither a begun nor a complete result");
  for (const int rank : {3, 0, 1}) {
    const outcome o = mxfp4_run({"quantize", e.in, out, "--rank", std::to_string(rank), "--world", "4", "--json"});
    REQUIRE(o.code == 0);
    CHECK_THAT(o.out, ContainsSubstring(R"("complete":false,"shards":1,"written":1,"kept":0)"));
  }
  e.check_unfinished(out);
  strings missing;
  for (const auto& [name, content] : e.expected)
    if (name.ends_with(".safetensors") && !fs::exists(out + "/" + name)) missing.push_back(name);
  REQUIRE(missing.size() == 1);
  refused({"merge", out}, "is not complete, it lacks '" + missing[0] + "': run mxfp4 quantize for them, then merge");

  // The last one dies on its way; only its shard is done again.
  std::map<std::string, ino_t> inodes;
  const auto look = [&] {
    std::map<std::string, ino_t> found;
    for (const auto& [name, content] : e.expected)
      if (struct stat info{}; name.ends_with(".safetensors") && name != missing[0]) {
        REQUIRE(stat((out + "/" + name).c_str(), &info) == 0);
        found[name] = info.st_ino;
      }
    return found;
  };
  inodes = look();
  {
    held_run run({"quantize", e.in, out, "--rank", "2", "--world", "4"});
    static_cast<void>(run.next("start"));
    static_cast<void>(run.end(SIGKILL));
  }
  REQUIRE(mxfp4_run({"quantize", e.in, out, "--rank", "2", "--world", "4"}).code == 0);
  CHECK(look() == inodes);
  const outcome merged = mxfp4_run({"merge", out});
  CHECK(merged.code == 0);
  CHECK_THAT(merged.out, ContainsSubstring("4 shards: 0 written, 4 there already"));
  CHECK(differences(e.expected, tree(out)) == strings{});
  CHECK(mxfp4_run({"merge", out}).code == 0);
  CHECK(differences(e.expected, tree(out)) == strings{});

  // A shard that was damaged after it was written is not merged.
  fs::remove_all(out);
  for (const char* rank : {"0", "1"})
    REQUIRE(mxfp4_run({"quantize", e.in, out, "--rank", rank, "--world", "2"}).code == 0);
  fs::remove(out + "/tokenizer.json");
  refused({"merge", out}, "it lacks 'tokenizer.json'");
  write_text(out + "/tokenizer.json", read_text(e.in + "/tokenizer.json"));
  fs::resize_file(out + "/" + missing[0], e.expected.at(missing[0]).size() - 1);
  refused({"merge", out}, "the file was truncated");
  CHECK_FALSE(fs::exists(out + "/model.safetensors.index.json"));
}

TEST_CASE("checkpoint: rank and world from what started us", "[checkpoint][ranks]") {
  const example e(3);
  struct row {
    strings environment, options;
    std::string message, warning = {};
  };
  const row rows[] = {
      {{"SLURM_PROCID=1", "SLURM_NTASKS=3"}, {}, "for rank 1 of 3 (Slurm)"},
      {{"OMPI_COMM_WORLD_RANK=2", "OMPI_COMM_WORLD_SIZE=3", "SLURM_PROCID=0", "SLURM_NTASKS=1"},
       {},
       "for rank 2 of 3 (Open MPI)"},
      {{"PMI_RANK=0", "PMI_SIZE=2"}, {}, "for rank 0 of 2 (PMI)"},
      {{"SLURM_PROCID=0", "SLURM_NTASKS=4", "SLURM_STEP_ID=0"}, {}, "for rank 0 of 4 (Slurm)"},
      {{"SLURM_PROCID=0", "SLURM_NTASKS=4"}, {}, "for rank 0 of 4 (Slurm)", "this process takes 1/4 of the work"},
      {{"PMIX_RANK=1"}, {"--world", "2"}, "for rank 1 of 2 (PMIx)"},
      {{"JOB_COMPLETION_INDEX=1"}, {"--world", "4"}, "for rank 1 of 4 (Kubernetes)"},
      {{"SLURM_PROCID=1"}, {}, "SLURM_PROCID is 1 and SLURM_NTASKS is not set: give --world N"},
      {{"JOB_COMPLETION_INDEX=1"}, {}, "JOB_COMPLETION_INDEX is 1, and --world is not given"},
      {{"SLURM_PROCID=3", "SLURM_NTASKS=3"}, {}, "SLURM_PROCID is 3, expected less than the number of processes, 3"},
      {{"SLURM_PROCID=x", "SLURM_NTASKS=3"}, {}, "SLURM_PROCID is 'x', expected a number from 0"},
      {{"SLURM_PROCID=1", "SLURM_NTASKS=3"}, {"--world", "4"}, "SLURM_NTASKS is 3, expected 4 as --world says"},
      {{}, {}, "PMIX_RANK, JOB_COMPLETION_INDEX is set: start under srun"},
  };
  int n = 0;
  for (const auto& [environment, options, message, warning] : rows) {
    CAPTURE(environment, options);
    const bool good = message.starts_with("for rank");
    strings line = {"quantize", e.in, e.folder / ("out" + std::to_string(n++)), "--rank", "auto"};
    line.insert(line.end(), options.begin(), options.end());
    const outcome o = mxfp4_run(line, {}, environment);
    CHECK(o.code == (good ? 0 : 1));
    CHECK_THAT(good ? o.out : o.err, ContainsSubstring(message));
    if (good) CHECK((o.err.find("mxfp4: warning: ") != std::string::npos) == !warning.empty());
    if (good) CHECK_THAT(o.err, ContainsSubstring(warning));
  }
}

TEST_CASE("checkpoint: a real mpirun", "[checkpoint][ranks]") {
  if (run({"/bin/sh", "-c", "command -v mpirun"}).code != 0) SKIP("needs mpirun");
  const example e(5);
  const std::string out = e.folder / "out";
  const outcome o = run({"/usr/bin/env", "mpirun", "-n", "4", "--oversubscribe", "--allow-run-as-root", MXFP4_PROGRAM,
                         "quantize", e.in, out, "--rank", "auto", "--threads", "1"});
  INFO(o.out << o.err);
  REQUIRE(o.code == 0);
  for (const char* rank : {"0", "1", "2", "3"})
    CHECK_THAT(o.out, ContainsSubstring(std::string("for rank ") + rank + " of 4 (Open MPI)"));
  e.check_unfinished(out);
  REQUIRE(mxfp4_run({"merge", out}).code == 0);
  CHECK(differences(e.expected, tree(out)) == strings{});
}
