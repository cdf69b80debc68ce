# mxfp4_vllm/checks.py -- what is wrong with a checkpoint or a split, in one sentence, before the first token.
# SPDX-License-Identifier: Apache-2.0
import functools
from collections.abc import Callable

import torch

BLOCK = 32
NAN_SCALE = 255  # of E8M0; scales are filled with it before loading, so that one that no file has is seen


def check_split(name: str, what: str, whole: int, part: int) -> None:
    """ValueError where a process has `part` columns of `whole` and that cuts a block."""
    if part % BLOCK == 0:
        return
    if whole % BLOCK != 0:
        raise ValueError(f"{name}: {what} is {whole}, expected a multiple of {BLOCK}: MXFP4 has a scale for each "
                         f"{BLOCK} columns; leave the layer unquantised")
    sizes = [n for n in range(1, whole // BLOCK + 1) if whole % (n * BLOCK) == 0]
    raise ValueError(f"{name}: {what} of each process is {part}, expected a multiple of {BLOCK}, for a block shares a "
                     f"scale: take --tensor-parallel-size {', '.join(map(str, sizes[:12]))} for this layer's {whole}")


def check_scales(name: str, tensor: str, scales: torch.Tensor) -> None:
    """ValueError where a scale byte is that of NaN."""
    wrong = scales == NAN_SCALE
    if wrong.any():
        at = wrong.nonzero()[0].tolist()
        raise ValueError(f"{name}.{tensor}: the scale byte at {at} is {NAN_SCALE} (NaN), as it is where no file of the "
                         f"checkpoint has it: `mxfp4 verify DIR` names what is missing or NaN")


def explain(loader: Callable, name: str, tensor: str) -> Callable:
    """A loader of a linear layer, whose bare assertions and complaints of torch become a sentence."""
    @functools.wraps(loader)
    def load(param, loaded_weight, *args, **kwargs):
        try:
            return loader(param, loaded_weight, *args, **kwargs)
        except (AssertionError, RuntimeError) as error:
            raise ValueError(f"{name}.{tensor}: a tensor of the checkpoint is {list(loaded_weight.shape)}, expected "
                             f"what fits {list(param.shape)} by config.json: `mxfp4 verify DIR` compares the two"
                             ) from error
    return load


class Seen:
    """Which parts of an expert tensor the loader has filled, and whether they are of the size that config.json gives.

    sizes: rows and columns of a shard ("w1", "w2", "w3") before it is split; empty: of any size.
    """

    def __init__(self, layer: str, tensor: str, sizes: dict[str, tuple[int, int]]) -> None:
        self.layer, self.tensor, self.sizes = layer, tensor, sizes
        self.parts: set[tuple[str | None, int | None]] = set()

    def watch(self, loader: Callable) -> Callable:
        """The loader, which adds (shard, expert of the model) after each part that it took."""
        @functools.wraps(loader)
        def load(param, loaded_weight, weight_name, shard_id=None, expert_id=None, return_success=False):
            size = self.sizes.get(shard_id)
            if size is not None and tuple(loaded_weight.shape[-2:]) != size:
                raise ValueError(f"{self.layer}: {shard_id} of expert {expert_id} in {self.tensor} is "
                                 f"{list(loaded_weight.shape)}, expected {list(size)} by config.json: `mxfp4 verify "
                                 f"DIR` compares the two")
            taken = loader(param, loaded_weight, weight_name, shard_id=shard_id, expert_id=expert_id,
                           return_success=return_success)
            if taken is not False:
                self.parts.add((shard_id, None if loaded_weight.dim() == 3 else expert_id))
            return taken
        return load

    def lacks(self, shards: tuple[str, ...], experts: list[int]) -> tuple[str, int] | None:
        """The first shard of an expert that is not there."""
        for expert in experts:
            for shard in shards:
                if (shard, expert) not in self.parts and (shard, None) not in self.parts:
                    return shard, expert
        return None
