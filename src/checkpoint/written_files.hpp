// src/checkpoint/written_files.hpp -- what a run wrote into a folder, so that a later one replaces nothing else.
// SPDX-License-Identifier: Apache-2.0
//
//   OUT/mxfp4_report.json         "files", where mxfp4 quantize made it        names relative to OUT
//      /mxfp4_files.json          the same, where another command did
//      /.mxfp4/manifest.json      of a run that is not finished
//             /replaced.json      of a run with --overwrite: what it removes, or has removed
//
// Each of them is sealed (sealed_json.hpp). One that was damaged or edited is believed of a file that the coming run
// writes too, and of no other: what else it lists may be the user's.
//
// A folder with .mxfp4 in it is no checkpoint: what reads one refuses it. So with --overwrite the first thing written
// is replaced.json, and the last thing removed is .mxfp4; killed anywhere between, the same command goes on.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "mxfp4/checkpoint/reader.hpp"
#include "mxfp4/io/file.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

inline constexpr const char* record_file_name = "mxfp4_files.json";

/// Relative paths.
using file_names = std::set<std::string>;

/// @throws file_error where a run that writes `directory` is not finished: it may look like a whole checkpoint.
void require_finished(const std::string& directory);

/// Complete, or not there, in the place of a link too; the folder must be.
void write_text_file(const std::string& path, std::string_view text, const io::stop_function& stop = {});

/// Sees that the names can be recorded: JSON holds UTF-8 alone. @throws file_error naming one of `folder` that cannot.
void require_recordable(const std::string& folder, const std::vector<std::string>& names);

/// The files beside the shards that a result takes over from its source as they are: not config.json, no card of
/// another model, nothing that describes another quantisation.
/// @throws file_error naming one whose name JSON cannot hold, or that is only a pointer to a file.
[[nodiscard]] std::vector<std::string> carried_files(const checkpoint_reader& source);

/// The text of OUT/mxfp4_files.json.
[[nodiscard]] std::string record_text(const file_names& files);

/// Makes the folders on the way to folder/name. @throws file_error naming one that is a symbolic link: nothing is
/// written through it.
void make_folders(const std::string& folder, const std::string& name);

/// OUT/.mxfp4, made where it is absent. @throws file_error where it is a symbolic link.
void make_journal_folder(const std::string& out);

/// What records in a folder say of it.
struct former_files {
  std::string folder;
  file_names names;     ///< of sealed records
  file_names doubtful;  ///< of others
  std::string doubt;    ///< which record is not what was sealed, and why; empty where all are

  void add(const former_files& other);
};

/// The replacement of what a former run left in a folder.
class replacement {
 public:
  explicit replacement(const std::string& out);

  enum class state { none, removing, removed };
  [[nodiscard]] std::uint64_t bytes_to_go() const;      ///< on the disk, after plan: of the files that remove removes
  [[nodiscard]] state found() const { return found_; }  ///< what a run with --overwrite left that was killed
  /// @throws file_error where that run was killed while it removed files.
  void require_none() const;

  /// Sees that files may be written and former ones removed, before anything is touched.
  /// @param coming  the names of the files to come.
  /// @throws file_error where no run recorded what is in OUT; where a file to come is there and was not written by that
  /// run, a folder on the way to one is a link, or a file to be removed is now a folder; where a record that was
  /// changed lists a file that is there and is not to come; where the journal's folder holds what is not its own.
  void plan(const file_names& coming);
  /// Marks OUT as being replaced, then removes exactly what the former run recorded, and folders that are empty then.
  /// Until this object goes no other run writes there. @throws file_error where one does.
  void remove();
  /// Nothing of the former run is left; what it was stays on record until .mxfp4 goes.
  void done() const;

 private:
  void write(bool removed) const;

  std::string out_, path_;
  state found_ = state::none;
  former_files former_;
  file_names files_;  // to be removed
  std::optional<io::file_lock> alone_;
};

}  // namespace mxfp4::checkpoint
