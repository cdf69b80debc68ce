// mxfp4/checkpoint/reader.hpp -- a model's directory, or one safetensors file, as one list of tensors.
// SPDX-License-Identifier: Apache-2.0
//
//   DIR/model.safetensors.index.json  {"metadata": {"total_size": ...}, "weight_map": {"<tensor>": "<shard>", ...}}
//      /model-00000-of-00130.safetensors  ...    the shards: those that the weight_map names, however they are numbered
//      /model.safetensors                        or, without an index, this one, or the only *.safetensors
//      /config.json, tokenizer.json, ...         other files
//
// The weight_map decides: a name that another shard's header repeats, a file that it does not mention, count for
// nothing and are listed. Checkpoints that were requantised in place hold such leftovers.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "mxfp4/core/version.hpp"
#include "mxfp4/io/safetensors_reader.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

inline constexpr const char* index_file_name = "model.safetensors.index.json";  ///< which shard holds which tensor
inline constexpr const char* single_file_name = "model.safetensors";  ///< where there is one shard and no index
inline constexpr const char* config_file_name = "config.json";        ///< the model's

/// A tensor and where it is. `info` points into the reader that gave it.
struct checkpoint_tensor {
  std::size_t shard = 0;                  ///< an index into checkpoint_reader::shards()
  const io::tensor_info* info = nullptr;  ///< its name, type, shape and place
};

/// Holds the headers of all shards, never data.
class checkpoint_reader {
 public:
  /// @param path  a directory, or a safetensors file, which is then the only shard and has no other files.
  /// @param take  names of .safetensors files in the directory that are read too, as if the index had their tensors.
  /// An error for a shard that is missing or not exactly what the format says, for a tensor that is not in the shard
  /// the weight_map names, for an index that is not one, or leads out of the directory; for a link among other files
  /// that leads nowhere; for a tensor of a file to be taken that is there already.
  [[nodiscard]] static io::file_result<checkpoint_reader> open(const std::string& path,
                                                               const std::vector<std::string>& take = {});

  /// As it was given to open().
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// Where the shards are: path(), or the folder of a single file ("." where its name has none).
  [[nodiscard]] const std::string& directory() const noexcept { return directory_; }
  [[nodiscard]] bool is_directory() const noexcept { return is_directory_; }  ///< false for a single file
  /// False for a single file, and for a directory with one shard and no index.
  [[nodiscard]] bool has_index() const noexcept { return has_index_; }

  /// File names inside directory(), sorted.
  [[nodiscard]] const std::vector<std::string>& shards() const noexcept { return shards_; }
  /// The i-th of shards().
  [[nodiscard]] const io::safetensors_reader& shard(std::size_t i) const { return *readers_[i]; }

  /// Shard after shard, each in the order of its data.
  [[nodiscard]] const std::vector<checkpoint_tensor>& tensors() const noexcept { return tensors_; }
  [[nodiscard]] std::vector<io::tensor_info> tensor_infos() const;           ///< copies of theirs, for a plan
  [[nodiscard]] const checkpoint_tensor* find(std::string_view name) const;  ///< nullptr where there is none
  /// In a shard's header, but not assigned to that shard.
  [[nodiscard]] const std::vector<checkpoint_tensor>& unlisted_tensors() const noexcept { return unlisted_; }
  [[nodiscard]] std::uint64_t tensor_bytes() const noexcept { return tensor_bytes_; }  ///< of tensors()

  /// Bytes [offset, offset + bytes.size()) of a tensor, as they are.
  io::file_result<void> read(const checkpoint_tensor& tensor, std::uint64_t offset, std::span<std::byte> bytes) const {
    return shard(tensor.shard).read(*tensor.info, offset, bytes);
  }

  /// The text of config.json; nullopt for a single file and where there is none. Whether it is JSON is not looked at.
  /// An error for a file that cannot be read.
  [[nodiscard]] io::file_result<std::optional<std::string>> config_text() const;
  /// What the index says in "metadata", the text of a JSON object; empty where it says nothing, or there is no index.
  [[nodiscard]] const std::string& metadata_text() const noexcept { return metadata_text_; }

  /// Regular files, also in subfolders, that belong to the model and are neither shards nor the index: relative paths,
  /// sorted. Symbolic links count as what they lead to.
  [[nodiscard]] const std::vector<std::string>& other_files() const noexcept { return other_files_; }
  /// What does not belong to it: weights that the weight_map does not name, in this and other formats, temporary files,
  /// hidden folders (.git, .cache), the folders metal and original, links to folders. Relative paths, sorted.
  [[nodiscard]] const std::vector<std::string>& ignored_files() const noexcept { return ignored_files_; }
  /// Of these the .safetensors files beside the shards, which some readers load all the same.
  [[nodiscard]] std::vector<std::string> stray_shards() const;

 private:
  checkpoint_reader(const std::string& path, const std::vector<std::string>& take);

  using weight_map = std::unordered_map<std::string, std::string>;

  [[nodiscard]] weight_map read_index(const std::string& file);
  [[nodiscard]] std::string find_single_file() const;
  void open_shards(const weight_map* map);
  void take_files(const std::vector<std::string>& names);
  void list_files();

  std::string path_, directory_, metadata_text_;
  bool is_directory_ = false, has_index_ = false;
  std::vector<std::string> shards_, other_files_, ignored_files_;
  std::vector<std::unique_ptr<io::safetensors_reader>> readers_;
  std::vector<checkpoint_tensor> tensors_, unlisted_;
  std::uint64_t tensor_bytes_ = 0;
  std::unordered_map<std::string_view, std::size_t> by_name_;
};

}  // namespace mxfp4::checkpoint
