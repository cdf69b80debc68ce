#!/usr/bin/env python3
# bench/llama_cpp/compare.py -- `mxfp4 run` beside llama.cpp on one model: first the errors, then the times, in turns.
# SPDX-License-Identifier: Apache-2.0
"""compare.py FOLDER --runner PROGRAM [--activations int8-residual2] [--threads 1 --threads 2] [--context 128 ...]
           [--memory BYTES] [--rounds 9] [--cpus 0,1] [--limits PROGRAM]
           [--flash-attention off]

FOLDER is make_model.py's. Each program's logits after the oracle's tokens are compared with those in double, as
|logits - exact| / |exact|, taken at once and one by one; if ours are not finite, or further away than 0.2, nothing is timed.
Behind each context, which is too long for the oracle, the logits are compared with those that ours has with float activations.
Then both take turns, round by round, one thread by its processor time, two by the clock: a prompt of 512 tokens, and single
tokens behind a context. The table has medians, and the ratio of the rates of each round in the median with its 95 % interval.
With --memory ours keeps so many bytes of experts and reads the others again, from the page cache; llama.cpp, which maps its
file, has no such bound and runs as before. Flash attention, which is llama.cpp's default, can be switched off: a prompt takes
longer then, a token behind a long context less.

With --limits, which is bench_limits, the machine takes its turn in each round, on as many threads. Its limit for a token is
the time to read once from memory what the token needs: 4 of 32 experts as they are packed, all other matrices in BF16, keys
and values in 16 bits. For a prompt it is the time to multiply each weight once for each token that needs it, experts by
int8 dots, all else by fused multiply-adds of floats. Experts that a token found beyond --memory cannot be had without
pread: their part of its limit is the time that pread takes for as many bytes of the same file in pieces that stay in a
near cache, as many threads at once. Of a prompt's limit reading is no part, whatever it reads.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import struct
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent


class Program:
    """One that answers lines."""

    def __init__(self, name, command, cpus, by_cpu_time):
        self.name, self.by_cpu_time = name, by_cpu_time
        self.process = subprocess.Popen(["taskset", "-c", cpus, *map(str, command)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.expect("ready")

    def expect(self, what):
        line = self.process.stdout.readline().strip()
        if not line or (what and line != what):
            sys.exit(f"{self.name}: answered {line!r}, expected {what or 'seconds'}")
        return line

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, command, ids=()):
        """Seconds: as the program says, or of processor time."""
        before = self.cpu_seconds()
        print(command, *ids, file=self.process.stdin, flush=True)
        seconds = float(self.expect(None))
        return self.cpu_seconds() - before if self.by_cpu_time else seconds

    def logits(self):
        with tempfile.NamedTemporaryFile() as file:
            self.ask("logits", [file.name])
            return np.fromfile(file.name, "<f4").astype(np.float64)

    def bytes_read(self):
        """Of experts, so far; ours alone says that."""
        print("bytes_read", file=self.process.stdin, flush=True)
        return int(self.expect(None))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Needs:
    """What the model in `folder` cannot do without, from the header of its weights."""

    def __init__(self, folder):
        config = json.loads((folder / "config.json").read_text())
        with open(folder / "model.safetensors", "rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        self.heads, self.kv_heads, self.head_dim = (
            config[key] for key in ("num_attention_heads", "num_key_value_heads", "head_dim"))
        self.windows = [config["sliding_window"] if kind == "sliding_attention" else None for kind in config["layer_types"]]
        self.weight_bytes = self.expert_weights = self.dense_weights = self.head_weights = 0  # of a token
        for name, tensor in header.items():
            begin, end = tensor["data_offsets"]
            if ".experts." in name:
                part = (end - begin) * config["num_experts_per_tok"] // config["num_local_experts"]
                self.weight_bytes += part
                if name.endswith("weight_packed"):
                    self.expert_weights += 2 * part  # two in a byte
            elif "embed_tokens" in name:
                self.weight_bytes += (end - begin) // tensor["shape"][0]  # one row
            else:
                self.weight_bytes += end - begin
                if name.startswith("lm_head"):
                    self.head_weights += (end - begin) // 2
                elif len(tensor["shape"]) == 2:
                    self.dense_weights += (end - begin) // 2

        if self.expert_weights == 0:
            sys.exit(f"{folder}: no tensor ends with weight_packed, expected a twin that make_model.py writes: remove it, "
                     "and make it again")

    def seen(self, position):
        """Tokens that the layers look at, of all of them together."""
        return sum(min(position + 1, window or position + 1) for window in self.windows)

    def bytes_of_token(self, context):
        return self.weight_bytes + 2 * 2 * self.kv_heads * self.head_dim * self.seen(context)

    def operations_of_prompt(self, tokens):
        """Those of int8 and those of floats, two a multiplication; logits are of the last token alone."""
        attention = 2 * self.heads * self.head_dim * sum(map(self.seen, range(tokens)))
        return 2 * self.expert_weights * tokens, 2 * (self.dense_weights * tokens + self.head_weights + attention)


class Machine:
    """The best rates of bench_limits, a second."""

    def __init__(self, limits, threads, cpus, file):
        self.command, self.threads = ["taskset", "-c", cpus, limits, "--benchmark_format=json"], threads
        self.cpus, self.file = {int(cpu) for cpu in cpus.split(",")}, file

    def rate(self, row):
        done = subprocess.run([*self.command, f"--benchmark_filter=^{row}.*/threads:{self.threads}/"], check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return 1e9 * max(r["value"] for r in json.loads(done.stdout)["benchmarks"])

    def pread_rate(self, at_once=1 << 17, most=1 << 30):
        """Of the end of the file, in the page cache: the best of three."""
        end = self.file.stat().st_size
        pieces = min(most, end) // at_once // self.threads * self.threads
        begin = end - pieces * at_once

        def read(part):
            os.sched_setaffinity(0, self.cpus)  # of this thread
            buffer = memoryview(bytearray(at_once))
            with open(self.file, "rb", buffering=0) as file:
                for at in range(begin + part * at_once, end, self.threads * at_once):
                    os.preadv(file.fileno(), [buffer], at)

        def once():
            threads = [threading.Thread(target=read, args=(i,)) for i in range(self.threads)]
            since = time.perf_counter()
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            return (end - begin) / (time.perf_counter() - since)

        return max(once() for _ in range(3))

    def token_seconds(self, needs, context, again):
        """@param again  bytes of experts that were not kept."""
        seconds = (needs.bytes_of_token(context) - again) / self.rate("read/residency:cold")
        return seconds + (again / self.pread_rate() if again else 0)

    def prompt_seconds(self, needs, tokens):
        of_int8, of_floats = needs.operations_of_prompt(tokens)
        return of_int8 / self.rate("dot_peak") + of_floats / self.rate("fma_peak")


def error_of(logits, exact):
    return float(np.linalg.norm(logits - exact) / np.linalg.norm(exact))


def interval(values):
    """The median, and the 95 % interval of it by order statistics."""
    values = np.sort(values)
    n = len(values)
    half = 0.98 * np.sqrt(n)
    low = int(max(np.floor(n / 2 - half), 0))
    high = n - 1 - low
    return float(np.median(values)), float(values[low]), float(values[high])


def float_logits(command, cpus, ids, contexts, oracle):
    """Of ours with float activations: the logits behind each context, and their error where the oracle is."""
    floats = Program("mxfp4, f32", command, cpus, False)
    logits = {}
    for context in contexts:
        floats.ask("clear")
        floats.ask("take", ids[:context])
        logits[context] = floats.logits()
    errors = check([floats], oracle)
    floats.close()
    return logits, errors


def check(programs, oracle):
    errors = {}
    for p in programs:
        for command in ("take", "each"):
            p.ask("clear")
            p.ask(command, oracle["ids"])
            errors[p.name, command] = error_of(p.logits(), oracle["logits"])
    for (name, command), error in errors.items():
        if not error < 0.2:
            sys.exit(f"{name}, {command}: logits are {error} away from those in double, expected less than 0.2")
    return errors


def rounds_of(programs, prepare, measure, rounds, limit=None):
    """Seconds of each program, and of the machine's limit, in each round, in turns; who begins changes.
    limit(bytes that ours read of experts in this round)."""
    ours = programs[0]
    for p in programs:
        prepare(p)
    seconds = {p.name: [] for p in programs} | ({"limit": []} if limit else {})
    for r in range(rounds + 1):
        before = ours.bytes_read()
        for p in programs if r % 2 == 0 else programs[::-1]:
            took = measure(p, r)
            if r > 0:  # the first warms up
                seconds[p.name].append(took)
        if limit and r > 0:
            seconds["limit"].append(limit(ours.bytes_read() - before))
    return {name: np.array(values) for name, values in seconds.items()}


def row(title, threads, tokens, seconds, ours, theirs):
    ratio = interval(seconds[theirs] / seconds[ours])
    made = dict(title=title, threads=threads, ours=tokens / float(np.median(seconds[ours])),
                theirs=tokens / float(np.median(seconds[theirs])), ratio=ratio)
    if "limit" in seconds:
        made |= dict(limit=tokens / float(np.median(seconds["limit"])), of_limit=interval(seconds["limit"] / seconds[ours]))
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--runner", required=True)
    parser.add_argument("--python", default=sys.executable, help="that has llama_cpp")
    parser.add_argument("--activations", default="int8-residual2")
    parser.add_argument("--threads", action="append", type=int)
    parser.add_argument("--context", action="append", type=int)
    parser.add_argument("--memory", type=int, default=0, help="bytes of experts that ours keeps; 0: all")
    parser.add_argument("--flash-attention", choices=("auto", "off", "on"), default="auto", help="llama.cpp's")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=8, help="single tokens of a round")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--cpus", default="0,1")
    parser.add_argument("--limits", help="bench_limits; for one thread and two")
    parser.add_argument("--json")
    o = parser.parse_args()
    if o.limits and max(o.threads or [2]) > 2:
        parser.error("--limits: bench_limits measures one thread and two, expected no more")
    needs = Needs(o.folder / "twin") if o.limits else None
    ids = json.loads((o.folder / "ids.json").read_text())
    oracle = np.load(o.folder / "oracle.npz")
    contexts = o.context or [128, 4096]
    rows, behind = [], {}
    exact, errors = float_logits([o.runner, o.folder / "twin", max(o.threads or [2]), "f32"], o.cpus, ids, contexts, oracle)
    for threads in o.threads or [1, 2]:
        cpus = ",".join(o.cpus.split(",")[-threads:])
        ours = Program("mxfp4", [o.runner, o.folder / "twin", threads, o.activations, *([o.memory] if o.memory else [])], cpus,
                       threads == 1)
        theirs = Program("llama.cpp", [o.python, HERE / "peer.py", o.folder / "model.gguf", "--threads", threads,
                                       "--context", max(*contexts, o.prompt) + 1024,
                                       "--flash-attention", o.flash_attention], cpus, threads == 1)
        programs = [ours, theirs]
        machine = Machine(o.limits, threads, cpus, o.folder / "twin" / "model.safetensors") if o.limits else None
        errors |= check(programs, oracle)

        def prompt(p, r):
            p.ask("clear")
            return p.ask("take", ids[r * o.prompt:(r + 1) * o.prompt])

        seconds = rounds_of(programs, lambda p: None, prompt, o.rounds,
                            machine and (lambda again: machine.prompt_seconds(needs, o.prompt)))
        rows.append(row(f"prompt of {o.prompt}", threads, o.prompt, seconds, "mxfp4", "llama.cpp"))
        for context in contexts:
            def prepare(p):
                p.ask("clear")
                p.ask("take", ids[:context])
                behind[p.name, context] = error = error_of(p.logits(), exact[context])
                if not error < 0.2:
                    sys.exit(f"{p.name}: logits behind {context} tokens are {error} away from those of f32, expected less "
                             "than 0.2")

            seconds = rounds_of(programs, prepare,
                                lambda p, r: p.ask("each", ids[8192 + r * o.tokens:8192 + (r + 1) * o.tokens]), o.rounds,
                                machine and (lambda again: o.tokens * machine.token_seconds(needs, context,
                                                                                            again / o.tokens)))
            rows.append(row(f"a token behind {context}", threads, o.tokens, seconds, "mxfp4", "llama.cpp"))
        for p in programs:
            p.close()
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "")
    print(f"{datetime.date.today()}: {model or platform.machine()}, {os.cpu_count()} CPUs, "
          f"load {os.getloadavg()[0]:.1f} at the end; "
          f"--activations {o.activations}; {f'--memory {o.memory}; ' if o.memory else ''}"
          f"--flash-attention {o.flash_attention}; {o.rounds} rounds of {o.tokens} tokens\n")
    print("| | threads | mxfp4, tokens/s | llama.cpp, tokens/s | ratio | its 95 % interval |"
          f"{' limit, tokens/s | mxfp4 of it |' if o.limits else ''}\n|---|---:|---:|---:|---:|---|{'---:|---:|' if o.limits else ''}")
    for r in rows:
        m, low, high = r["ratio"]
        limit = f" {r['limit']:.2f} | {r['of_limit'][0]:.2f} |" if o.limits else ""
        print(f"| {r['title']} | {r['threads']} | {r['ours']:.2f} | {r['theirs']:.2f} | {m:.2f} | {low:.2f} .. {high:.2f} |{limit}")
    print("\n| error of logits against double | at once | one by one |\n|---|---:|---:|")
    for name in ("mxfp4, f32", "mxfp4", "llama.cpp"):
        print(f"| {name} | {errors[name, 'take']:.2e} | {errors[name, 'each']:.2e} |")
    print(f"\n| error against mxfp4, f32, behind | {' | '.join(map(str, contexts))} |\n|---|{'---:|' * len(contexts)}")
    for name in ("mxfp4", "llama.cpp"):
        print(f"| {name} | {' | '.join(f'{behind[name, c]:.2e}' for c in contexts)} |")
    if o.json:
        named = {f"{a} {b}": e for (a, b), e in (errors | behind).items()}
        pathlib.Path(o.json).write_text(json.dumps(dict(rows=rows, errors=named)))


if __name__ == "__main__":
    main()
