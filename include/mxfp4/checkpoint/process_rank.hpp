// mxfp4/checkpoint/process_rank.hpp -- which of how many processes this is, from what started it.
// SPDX-License-Identifier: Apache-2.0
//
//   asked in this order               rank                    world
//   Open MPI, also below Slurm        OMPI_COMM_WORLD_RANK    OMPI_COMM_WORLD_SIZE
//   MPICH, Intel MPI                  PMI_RANK                PMI_SIZE
//   Slurm (srun)                      SLURM_PROCID            SLURM_NTASKS
//   PMIx                              PMIX_RANK               --world
//   Kubernetes, indexed job           JOB_COMPLETION_INDEX    --world
//
// A batch script of Slurm has SLURM_PROCID 0 and the job's SLURM_NTASKS, but no step: without srun nobody does the work
// of the other ranks. That is a warning, for a script may set all of it by itself.
//
// Slurm comes after the launchers of MPI: what mpirun starts on the first node of a job inherits the job's SLURM_PROCID
// 0.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mxfp4/core/version.hpp"
#include "mxfp4/io/error.hpp"

namespace mxfp4::inline MXFP4_VERSION_NS::checkpoint {

/// Which of several processes this one is.
struct process_rank {
  int rank = 0, world = 1;  ///< 0 <= rank < world
  std::string origin;       ///< "Slurm", ...
  std::string warning;      ///< where the environment may say less than it seems; empty: none
};

/// @param get    the value of an environment variable, or nullptr: std::getenv.
/// @param world  as given; must agree with what the environment says.
/// An error where nothing is set, half of it, or what is no rank of that world.
[[nodiscard]] io::file_result<process_rank> rank_from_environment(const std::function<const char*(const char*)>& get,
                                                                  std::optional<int> world);

/// Which rank takes each of some files, by size: the largest first, each to the rank that has least so far. The same on
/// every machine.
[[nodiscard]] std::vector<int> assign_to_ranks(const std::vector<std::uint64_t>& bytes, int world);

}  // namespace mxfp4::checkpoint
