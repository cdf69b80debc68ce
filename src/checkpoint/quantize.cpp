// src/checkpoint/quantize.cpp -- who writes which file, in which order, and what is there already.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/quantize.hpp"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <set>
#include <system_error>
#include <utility>

#include "checkpoint/calibration_record.hpp"
#include "checkpoint/config_check.hpp"
#include "checkpoint/encode_shard.hpp"
#include "checkpoint/finished_shard.hpp"
#include "checkpoint/foreign_format.hpp"
#include "checkpoint/plan_settings.hpp"
#include "checkpoint/quantization_config.hpp"
#include "checkpoint/quantize_journal.hpp"
#include "checkpoint/reader_json.hpp"
#include "checkpoint/recorded_hashes.hpp"
#include "checkpoint/sealed_json.hpp"
#include "checkpoint/shard_name.hpp"
#include "checkpoint/shared_progress.hpp"
#include "checkpoint/tensor_hashes.hpp"
#include "checkpoint/unlisted_tensors.hpp"
#include "io/content_hash.hpp"
#include "io/guarded.hpp"
#include "io/strict_json.hpp"
#include "mxfp4/checkpoint/process_rank.hpp"
#include "mxfp4/checkpoint/quantize_file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

plan_options plan_options_of(const checkpoint_settings& settings, const ordered_json& config) {
  plan_options options{.include = settings.include,
                       .exclude = settings.exclude,
                       .others = settings.others,
                       .linears = settings.linears,
                       .any_matrix = settings.force,
                       .to_bf16 = settings.to_bf16};
  read_model(config, options);
  return options;
}

namespace {

namespace fs = std::filesystem;

/// A file of the result and what goes into it.
struct output_shard {
  std::string file;
  std::size_t source = 0;            ///< whose metadata it takes
  std::vector<std::size_t> tensors;  ///< indices into the plan
  std::uint64_t input_bytes = 0, bytes = 0;

  void add(const quantization_plan& plan, std::size_t tensor) {
    tensors.push_back(tensor);
    input_bytes += checkpoint::input_bytes(plan, plan.tensors[tensor]);
    bytes += plan.tensors[tensor].output_bytes();
  }
};

/// One shard for each of the input; a single file is cut where a shard would get larger than it may.
[[nodiscard]] std::vector<output_shard> lay_out(const checkpoint_reader& in, const quantization_plan& plan,
                                                std::uint64_t max_bytes) {
  std::vector<output_shard> shards;
  const bool single = in.shards().size() == 1;
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const planned_tensor& t = plan.tensors[i];
    if (t.action == tensor_action::fp8_scales) continue;
    const std::size_t source = in.tensors()[i].shard;
    const bool full = single && !shards.empty() && shards.back().bytes + t.output_bytes() > max_bytes;
    if (shards.empty() || shards.back().source != source || full) shards.push_back({in.shards()[source], source, {}});
    shards.back().add(plan, i);
  }
  if (single)
    for (std::size_t i = 0; i < shards.size(); ++i) shards[i].file = shard_name(i, shards.size());
  return shards;
}

[[nodiscard]] ordered_json to_json(const std::optional<std::string>& text) {
  return text ? ordered_json(*text) : ordered_json(nullptr);
}

/// @param written  the result's config.json.  @param carried  the files that are taken over, from `in`.
[[nodiscard]] ordered_json make_manifest(const checkpoint_reader& in, const std::string& config,
                                         const checkpoint_settings& settings, const std::vector<output_shard>& shards,
                                         const std::string& written, const std::vector<std::string>& carried) {
  ordered_json sources = ordered_json::array(), results = ordered_json::array(), hashes = ordered_json::array(),
               taken = ordered_json::object(), names = ordered_json::array({config_file_name});
  for (std::size_t i = 0; i < in.shards().size(); ++i)
    sources.push_back({{"file", in.shards()[i]},
                       {"bytes", in.shard(i).file_bytes()},
                       {"modified", in.shard(i).modified()},
                       {"header", in.shard(i).header_hash()}});
  for (const output_shard& s : shards) results.push_back({{"file", s.file}, {"bytes", s.bytes}});
  hashes.push_back({{"file", config_file_name}, {"bytes", written.size()}, {"hash", hash_of(written)}});
  for (const std::string& name : carried) {
    const std::string path = (fs::path(in.directory()) / name).string();
    const std::string hash = hash_of_file(path);
    hashes.push_back({{"file", name}, {"bytes", input_file::open(path).value().size()}, {"hash", hash}});
    names.push_back(name);
    taken[name] = hash;  // two processes that take different tokenizers do not write one result
  }
  ordered_json decided = {{"recipe", recipe_name(settings.recipe)},
                          {"include", to_json(settings.include)},
                          {"exclude", to_json(settings.exclude)},
                          {"take", settings.take},
                          {"linears", settings.linears},
                          {"activations", declared_activations_names[static_cast<std::size_t>(settings.activations)]},
                          {"dtype", settings.to_bf16 ? "bf16" : "keep"},
                          {"force", settings.force},
                          {"others", settings.others == fp8_policy::keep ? "fp8" : "bf16"},
                          {"nonfinite", settings.nonfinite == on_nonfinite::encode ? "encode" : "refuse"}};
  if (settings.codes != nullptr) decided["calibration"] = ordered_json::parse(settings.codes->record());
  return {
      {"format", "mxfp4 quantize"}, {"version", hashed_version},
      {"settings", decided},        {"source", {{"config", hash_of(config)}, {"files", taken}, {"shards", sources}}},
      {"shards", results},          {"files", names},
      {"file_hashes", hashes}};
}

class run_of_one {
 public:
  run_of_one(const std::string& in, const std::string& out, const checkpoint_settings& settings,
             const checkpoint_run& run, checkpoint_observer& observer)
      : in_(checkpoint_reader::open(in, settings.take).value()),
        out_(out),
        settings_(settings),
        run_(run),
        observer_(observer),
        journal_(out) {
    if (!in_.is_directory())
      throw file_error({.file = in, .value = "is not a directory", .expected = "a checkpoint's"});
    require_outputs({in}, {out}, existing_file::replace_link).value();
    const ordered_json config = read_config(in_);
    if (config.is_null())
      throw file_error({.file = in,
                        .value = std::string("has no ") + config_file_name,
                        .expected = "one, in which loaders are told of the quantisation",
                        .advice = "give the .safetensors file itself to quantise it without"});
    require_weights(in_.tensor_infos(), config, in);
    const plan_options options = plan_options_of(settings, config);
    plan_ = make_plan(in_.tensor_infos(), options, in).value();
    if (std::string warning = untold_quantization(in_.tensor_infos(), config, in_.other_files()); !warning.empty())
      plan_.warnings.push_back(std::move(warning));
    ordered_json result = make_config(config, plan_, in, settings.activations);
    if (settings.to_bf16) set_bf16(result);
    if (!settings.force) require_readable(result, options.model_type, in);
    config_ = json_text(result, 2) + "\n";
    shards_ = lay_out(in_, plan_, settings.max_shard_bytes);
    files_ = carried_files(in_);
    require_recordable(in_.directory(), in_.shards());
    manifest_ = make_manifest(in_, json_text(config), settings, shards_, config_, files_);
    const ordered_json head = report_head(manifest_);
    names_ = head.at("files").get<file_names>();
    std::vector<std::string> paths;
    for (const std::string& name : names_) paths.push_back(out + "/" + name);
    require_outputs({in}, paths, existing_file::replace_link).value();
  }

  [[nodiscard]] checkpoint_result run() {
    select_own_shards();
    if (is_complete()) return write_no_more();
    if (run_.overwrite) replace_former();
    if (is_begun_with_other_times()) accept_new_times();
    journal_.begin(manifest_);
    const file_lock running = file_lock::acquire(journal_.run_lock_path(), file_lock::kind::shared).value();
    replacement(out_).require_none();
    compare_with_source(own_);
    require_space();
    checkpoint_result result;
    result.shards = own_.size();
    std::uint64_t kept_bytes = 0;  // read again
    for (const output_shard* s : own_)
      if (is_done(out_, journal_, s->file)) {
        ++result.kept;
        kept_bytes += s->bytes;
      }
    observer_.on_start(own_.size(), result.kept, total_);
    total_ += kept_bytes;
    if (run_.rank == 0)
      for (const std::string& warning : plan_.warnings) observer_.on_warning(warning);
    if (const std::string warning = unlisted_warning(in_); run_.rank == 0 && !warning.empty())
      observer_.on_warning(warning);
    if (run_.rank == 0) write_small_files();
    // Also by a process without a shard of its own: the others may wait for its part of the codes.
    if (settings_.codes != nullptr && std::any_of(shards_.begin(), shards_.end(), [this](const output_shard& s) {
          return !is_done(out_, journal_, s.file);
        }))
      settings_.codes->prepare(journal_.folder());
    for (const output_shard* s : own_) {
      const file_lock lock = file_lock::acquire(journal_.lock_path(s->file)).value();
      const bool is_kept = is_done(out_, journal_, s->file);
      if (!is_kept) {
        write_shard(*s);
        ++result.written;
      }
      const std::string path = journal_.report_path(s->file);
      const safetensors_reader shard = safetensors_reader::open(out_ + "/" + s->file).value();
      const ordered_json report = check_shard(shard, path);
      if (is_kept) read_again(shard, report, s->bytes);
      add_shard_report(result, report, path);
    }
    result.kept = result.shards - result.written;
    if (run_.world == 1) {
      merge_shards(out_, run_.stop, false, [](std::uint64_t, std::uint64_t) {});
      result.complete = true;
    }
    return result;
  }

 private:
  void read_again(const safetensors_reader& shard, const ordered_json& report, std::uint64_t bytes) {
    verify_options options;
    options.stop = run_.stop;
    options.progress = [&](std::uint64_t done, std::uint64_t) { observer_.on_progress(done_ + done, total_, so_far_); };
    shared_progress progress(options, bytes);
    check_shard_hashes(shard, report, run_.threads, progress);
    done_ += bytes;
  }

  /// What verify would say of the config is said before the first byte is written.
  void require_readable(const ordered_json& config, const std::string& family, const std::string& in) const {
    std::string first;
    check_quantization_config(config, modules_of(plan_, family),
                              [&first](severity level, const std::string& where, const std::string& what) {
                                if (level == severity::error && first.empty()) first = where + " " + what;
                              });
    if (!first.empty())
      throw file_error({.file = in,
                        .value = "the result could not be loaded: " + first,
                        .advice = "choose others with --include or --exclude, or insist with --force"});
  }

  /// Was the run that is to go on begun with this source, but for the times of its files? It may have been copied.
  [[nodiscard]] bool is_begun_with_other_times() const {
    if (!journal_.exists()) return false;
    const ordered_json begun = journal_.manifest();
    return begun != manifest_ && without_times(begun) == without_times(manifest_);
  }

  /// What is done, by any process, stays where it is what the source becomes today.
  void accept_new_times() {
    journal_.require_own();
    const std::optional<file_lock> alone = file_lock::try_acquire(journal_.run_lock_path()).value();
    if (!alone)
      throw file_error({.file = out_,
                        .value = "is being written by another process, whose source has files of other times",
                        .advice = "wait for its end, or give all processes copies with one time (cp -p, rsync -t)"});
    std::vector<const output_shard*> all;
    for (const output_shard& s : shards_) all.push_back(&s);
    compare_with_source(all);
    journal_.replace(manifest_);
  }

  /// The files that a shard is made of, as they are now. None can change unnoticed: no program sets the last time.
  [[nodiscard]] ordered_json states_of_sources(const output_shard& s) const {
    ordered_json states = ordered_json::array();
    for (const std::size_t i : sources_of(s)) {
      const safetensors_reader& file = in_.shard(i);
      states.push_back({{"file", in_.shards()[i]},
                        {"header", file.header_hash()},
                        {"modified", file.modified()},
                        {"changed", file.changed()}});
    }
    return states;
  }

  /// Of these shards those that are done and were made of files in another state: are they what the source becomes?
  void compare_with_source(const std::vector<const output_shard*>& shards) {
    std::vector<const output_shard*> doubtful;
    const auto report_of = [this](const output_shard& s) {
      return check_shard(safetensors_reader::open(out_ + "/" + s.file).value(), journal_.report_path(s.file));
    };
    for (const output_shard* s : shards)
      if (is_done(out_, journal_, s->file) && report_of(*s).value("sources", ordered_json()) != states_of_sources(*s))
        doubtful.push_back(s);
    begin_comparison(doubtful);
    for (const output_shard* s : doubtful) {
      ordered_json report = report_of(*s);
      hashes_by_name hashes;
      for (const ordered_json& entry : report.at("tensor_hashes")) hashes.emplace(entry.at("name"), entry.at("hash"));
      expect_plain_codes(report, journal_.report_path(s->file), hashes);
      require_same_content(*s, hashes);
      report["sources"] = states_of_sources(*s);  // so that the next run need not ask again
      write_text_file(journal_.report_path(s->file), sealed_text(report), run_.stop);
    }
    end_comparison();
  }

  void begin_comparison(const std::vector<const output_shard*>& shards) {
    for (const output_shard* s : shards) total_ += s->input_bytes;
  }
  void end_comparison() {
    total_ = done_ = 0;
    so_far_ = {};
  }

  /// Codes that come from elsewhere are not made again: of their weights the report records what the recipe makes of
  /// them, from which another source is told.
  static void expect_plain_codes(const ordered_json& report, const std::string& path, hashes_by_name& hashes) {
    for (const auto& [tensor, hash] : read_plain_hashes(report, path)) hashes[tensor] = hash;
  }

  /// Encodes a shard that is there once more, in memory alone.
  /// @param expected  the hashes of its tensors, among others.
  void require_same_content(const output_shard& s, const hashes_by_name& expected) {
    const std::string path = out_ + "/" + s.file;
    const safetensors_reader shard = safetensors_reader::open(path).value();
    tensor_hashes hashes(shard.header());
    static_cast<void>(encode(
        s,
        [&](std::string_view tensor, std::span<const std::byte> bytes) {
          if (run_.stop && run_.stop()) throw stopped(path);
          hashes.add(tensor, bytes);
        },
        false));
    for (const ordered_json& entry : hashes.to_json())
      if (const auto found = expected.find(entry.at("name").get<std::string>());
          found == expected.end() || found->second != entry.at("hash"))
        throw file_error({.file = in_.path(),
                          .value = "is not the source of what is in " + quote_name(out_) + ": tensor " +
                                   quote_name(entry.at("name").get<std::string>()) + " of " + quote_name(s.file) +
                                   " is not what " + quote_name(in_.shards()[s.source]) + " becomes",
                          .advice = "name that source, a fresh directory, or start again with --overwrite"});
  }

  /// True where a former run of the same kind has ended well, and its result shall stay.
  [[nodiscard]] bool is_complete() {
    std::error_code error;
    if (fs::exists(fs::symlink_status(out_, error)) && !fs::is_directory(out_, error))
      throw file_error({.file = out_,
                        .value = fs::exists(out_, error) ? "is not a directory" : "is a link that leads nowhere",
                        .expected = "a directory or nothing"});
    if (run_.overwrite) return false;
    replacement(out_).require_none();
    const bool begun = journal_.exists();
    const ordered_json head = begun ? ordered_json(nullptr) : read_report_head(out_);
    if (!begun && head.is_null()) {
      for (const auto& entry : list(out_))
        if (entry != journal_folder_name && !journal_.exists())  // another rank may just have begun
          throw file_error({.file = out_,
                            .value = "holds " + quote_name(entry) + ", which is not of a run of mxfp4 quantize",
                            .advice = "name a fresh directory"});
      return false;
    }
    if (begun) return false;
    if (const std::string difference = manifest_difference(head, report_head(manifest_)); !difference.empty())
      throw file_error({.file = out_,
                        .value = "holds the result of another run: " + difference,
                        .advice = "name a fresh directory, or replace it with --overwrite"});
    journal_.remove();  // what a kill between the index and the end has left
    verify_options options;
    options.stop = run_.stop;
    options.progress = [this](std::uint64_t done, std::uint64_t total) { observer_.on_progress(done, total, {}); };
    recorded_hashes recorded = require_whole(out_, options);
    if (settings_.codes != nullptr) {
      const std::string path = out_ + "/" + report_file_name;
      expect_plain_codes(parse_json<ordered_json>(read_json_text(path), path), path, recorded.tensors);
    }
    // A source with the same names, shapes and sizes may hold other weights.
    begin_comparison(own_);
    for (const output_shard* s : own_) require_same_content(*s, recorded.tensors);
    end_comparison();
    return true;
  }

  [[nodiscard]] static std::set<std::string> list(const std::string& folder) {
    std::set<std::string> names;
    std::error_code error;
    for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
      names.insert(at->path().filename().string());
    if (error && error != std::errc::no_such_file_or_directory)
      throw file_error({.file = folder, .value = "cannot list the directory: " + error.message()});
    return names;
  }

  /// Removes what a former run wrote, unless that is an unfinished one of this very command.
  void replace_former() {
    replacement former(out_);
    const auto is_ours = guarded([&] { return manifest_difference(journal_.manifest(), manifest_).empty(); });
    if (former.found() == replacement::state::removed && is_ours && *is_ours) return;
    former.plan(names_);
    std::uint64_t needed = 0;
    for (const output_shard& s : shards_) needed += s.bytes + s.bytes / 100;
    if (fs::is_directory(out_)) require_free(needed, former.bytes_to_go());  // while the former result is still there
    former.remove();
    journal_.forget();
    journal_.begin(manifest_);
    former.done();
  }

  [[nodiscard]] checkpoint_result write_no_more() {
    checkpoint_result result;
    result.shards = result.kept = shards_.size();
    result.complete = true;
    observer_.on_start(result.shards, result.kept, 0);
    return result;
  }

  void select_own_shards() {
    std::vector<std::uint64_t> sizes;
    for (const output_shard& s : shards_) sizes.push_back(s.input_bytes);
    const std::vector<int> ranks = assign_to_ranks(sizes, run_.world);
    for (std::size_t i = 0; i < shards_.size(); ++i)
      if (ranks[i] == run_.rank) own_.push_back(&shards_[i]);
  }

  /// Names, offsets and reports come on top of the weights; a small part for any model.
  void require_space() {
    std::uint64_t needed = 0;
    for (const output_shard* s : own_)
      if (!is_done(out_, journal_, s->file)) {
        needed += s->bytes + s->bytes / 100;
        total_ += s->input_bytes;
      }
    require_free(needed, 0);
  }

  /// @param to_go  bytes that will be free too by then.
  void require_free(std::uint64_t needed, std::uint64_t to_go) const {
    if (const std::uint64_t there = free_bytes(out_).value() + to_go; needed > there)
      throw file_error({.file = out_,
                        .value = "has " + std::to_string(there) + " bytes free, the result needs " +
                                 std::to_string(needed) + " more",
                        .advice = "make room, or name another file system"});
  }

  void write_small_files() const {
    const file_lock lock = file_lock::acquire(journal_.lock_path("files")).value();
    write_text_file(out_ + "/" + config_file_name, config_, run_.stop);
    for (const std::string& name : files_) {
      make_folders(out_, name);
      copy_file((fs::path(in_.directory()) / name).string(), (fs::path(out_) / name).string(), run_.stop).value();
    }
  }

  /// The shards of the input that an output is made of: block scales may lie in another than their weights.
  [[nodiscard]] std::set<std::size_t> sources_of(const output_shard& s) const {
    std::set<std::size_t> sources = {s.source};
    for (const std::size_t i : s.tensors)
      if (const std::size_t scales = plan_.tensors[i].scales; scales != planned_tensor::no_scales)
        sources.insert(in_.tensors()[scales].shard);
    return sources;
  }

  /// @param writes  tells the observer of each tensor, and takes codes from where they come from.
  [[nodiscard]] std::vector<matrix_statistics> encode(const output_shard& s, const append_function& append,
                                                      bool writes = true) {
    shard_options options;
    options.recipe = settings_.recipe;
    options.nonfinite = settings_.nonfinite;
    options.threads = run_.threads;
    if (writes) options.codes = settings_.codes;
    options.on_slab = [this](std::uint64_t bytes, const error_statistics& error) {
      observer_.on_progress(done_ += bytes, total_, so_far_ += error);
    };
    if (writes)
      options.on_tensor = [this](const planned_tensor& t, std::span<const matrix_statistics> matrices) {
        observer_.on_tensor(t, matrices);
      };
    return encode_shard(in_, plan_, s.tensors, append, options);
  }

  void write_shard(const output_shard& s) {
    const std::string path = out_ + "/" + s.file;
    std::vector<tensor_info> tensors;
    for (const std::size_t i : s.tensors) {
      const std::vector<tensor_info>& outputs = plan_.tensors[i].outputs;
      tensors.insert(tensors.end(), outputs.begin(), outputs.end());
    }
    metadata extra = in_.shard(s.source).header().extra.value_or(metadata{});
    extra.emplace("format", "pt");  // transformers refuses a shard without
    safetensors_writer file =
        safetensors_writer::create(path, std::move(tensors), std::move(extra), run_.stop, existing_file::replace_link)
            .value();
    tensor_hashes hashes(file.header());
    const std::vector<matrix_statistics> matrices =
        encode(s, [&](std::string_view tensor, std::span<const std::byte> bytes) {
          file.append(tensor, bytes).value();
          hashes.add(tensor, bytes);
        });
    for (const std::size_t i : sources_of(s)) in_.shard(i).require_unchanged().value();
    journal_.require_same(manifest_);  // two runs that began at the same moment
    ordered_json report = make_shard_report(plan_, s.tensors, matrices, s.file, file, hashes, settings_.codes);
    report["sources"] = states_of_sources(s);
    write_text_file(journal_.report_path(s.file), sealed_text(report), run_.stop);
    file.commit().value();
    observer_.on_shard(s.file, file.file_bytes());
  }

  checkpoint_reader in_;
  std::string out_;
  const checkpoint_settings& settings_;
  const checkpoint_run& run_;
  checkpoint_observer& observer_;
  quantize_journal journal_;
  quantization_plan plan_;
  std::string config_;
  std::vector<output_shard> shards_;
  std::vector<std::string> files_;
  file_names names_;  // of all that will be there
  ordered_json manifest_;
  std::vector<const output_shard*> own_;
  std::uint64_t done_ = 0, total_ = 0;
  error_statistics so_far_;
};

}  // namespace

file_result<checkpoint_result> quantize_checkpoint(const std::string& in, const std::string& out,
                                                   const checkpoint_settings& settings, const checkpoint_run& run,
                                                   checkpoint_observer& observer) {
  return guarded([&]() -> checkpoint_result { return run_of_one(in, out, settings, run, observer).run(); });
}

}  // namespace mxfp4::checkpoint
