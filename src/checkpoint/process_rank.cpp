// src/checkpoint/process_rank.cpp -- see process_rank.hpp.
// SPDX-License-Identifier: Apache-2.0
#include "mxfp4/checkpoint/process_rank.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <numeric>

#include "io/guarded.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

using namespace io;

namespace {

struct launcher {
  const char* name;
  const char* rank;
  const char* world;  // nullptr: it does not say
};
constexpr const char* slurm_rank = "SLURM_PROCID";
constexpr std::array<launcher, 5> launchers = {{
    {"Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
    {"PMI", "PMI_RANK", "PMI_SIZE"},
    {"Slurm", slurm_rank, "SLURM_NTASKS"},
    {"PMIx", "PMIX_RANK", nullptr},
    {"Kubernetes", "JOB_COMPLETION_INDEX", nullptr},
}};

[[nodiscard]] int parse(const char* variable, const char* text) {
  int value = 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  if (error != std::errc{} || stop != end || value < 0)
    throw file_error({.value = std::string("environment: ") + variable + " is " + quote_name(text),
                      .expected = "a number from 0",
                      .advice = "give --rank and --world as numbers"});
  return value;
}

}  // namespace

file_result<process_rank> rank_from_environment(const std::function<const char*(const char*)>& get,
                                                std::optional<int> world) {
  return guarded([&]() -> process_rank {
    std::string names;
    for (const launcher& l : launchers) {
      const char* rank_text = get(l.rank);
      names += (names.empty() ? "" : ", ") + std::string(l.rank);
      if (rank_text == nullptr) continue;
      process_rank found{parse(l.rank, rank_text), world.value_or(0), l.name, {}};
      const char* world_text = l.world == nullptr ? nullptr : get(l.world);
      const std::string where = std::string("environment: ") + l.rank + " is " + rank_text;
      if (world_text != nullptr) {
        const int size = parse(l.world, world_text);
        if (world && *world != size)
          throw file_error({.value = std::string("environment: ") + l.world + " is " + world_text,
                            .expected = std::to_string(*world) + " as --world says"});
        found.world = size;
      } else if (!world) {
        throw file_error({.value = where + (l.world == nullptr ? std::string(", and --world is not given")
                                                               : std::string(" and ") + l.world + " is not set"),
                          .advice = "give --world N, the number of processes"});
      }
      if (found.rank >= found.world)
        throw file_error(
            {.value = where, .expected = "less than the number of processes, " + std::to_string(found.world)});
      if (l.rank == slurm_rank && found.rank == 0 && found.world > 1 && get("SLURM_STEP_ID") == nullptr)
        found.warning =
            where + " and SLURM_STEP_ID is not set, as in a batch script without srun: this process takes 1/" +
            std::to_string(found.world) + " of the work, and nobody the rest; start it with srun, or leave out --rank";
      return found;
    }
    throw file_error({.value = "environment: none of " + names + " is set",
                      .advice = "start under srun, mpirun or an indexed job, or give --rank R --world N"});
  });
}

std::vector<int> assign_to_ranks(const std::vector<std::uint64_t>& bytes, int world) {
  std::vector<std::size_t> order(bytes.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return bytes[a] > bytes[b]; });
  std::vector<std::uint64_t> load(static_cast<std::size_t>(world));
  std::vector<int> ranks(bytes.size());
  for (const std::size_t i : order) {
    const auto least = std::min_element(load.begin(), load.end());
    *least += bytes[i];
    ranks[i] = static_cast<int>(least - load.begin());
  }
  return ranks;
}

}  // namespace mxfp4::checkpoint
