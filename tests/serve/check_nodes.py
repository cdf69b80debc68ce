# tests/serve/check_nodes.py -- a model on two nodes, which are two servers of this machine that meet on loopback.
# SPDX-License-Identifier: Apache-2.0
"""check_nodes.py MXFP4 SOURCE

examples/minimax quantised, `vllm serve --nnodes 2`: half of every expert on each node. The tokens of 8 prompts must be
those of two processes on one node, which add the same two numbers by another way.
"""
import argparse
import asyncio
import pathlib
import subprocess
import sys
import tempfile

from check_server import Server, command, end, free_port, server_environment
from check_tokens import LENGTH, TOKENS, WINDOWS, run
from engine import generate


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mxfp4", type=pathlib.Path)
    parser.add_argument("source", type=pathlib.Path)
    options = parser.parse_args()
    text = (options.source / "examples/minimax/held_out.txt").read_bytes()
    prompts = [list(text[a:a + LENGTH]) for a in WINDOWS]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as log:
        model = pathlib.Path(folder) / "mxfp4"
        run(options.mxfp4, "quantize", options.source / "examples/minimax/model", model)
        split = ["--tensor-parallel-size", "2", "--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port",
                 str(free_port()), "--distributed-executor-backend", "mp"]
        head = Server(model, log, *split, "--node-rank", "0")
        other = subprocess.Popen([*command(model), *split, "--node-rank", "1", "--headless"], stdout=log,
                                 stderr=subprocess.STDOUT, env=server_environment())
        try:
            head.wait()

            async def all_prompts():
                return [await head.ask(p, TOKENS) for p in prompts]

            found = asyncio.run(all_prompts())
        except BaseException:
            log.seek(0)
            print(log.read()[-6000:])
            raise
        finally:
            end(head.process)
            end(other)
        expected, _ = generate(model, prompts, TOKENS, alone=True, tensor_parallel_size=2)
    same = sum(a == b for x, (y, *_) in zip(found, expected) for a, b in zip(x, y))
    print(f"two nodes: {same} of {TOKENS * len(prompts)} tokens as two processes of one", flush=True)
    if same != TOKENS * len(prompts):
        sys.exit("serve: two nodes give other tokens")


if __name__ == "__main__":
    main()
