#!/usr/bin/env python3
# tests/fault_injector/run.py -- every command that writes, with a fault at each of its calls for files.
# SPDX-License-Identifier: Apache-2.0
"""Runs commands of mxfp4 with inject.cpp preloaded, one fault a run, and checks what each leaves behind.

The rules, in which "new" is what the command does without a fault and "old" what was there before it:
  files       each path is as it was or as the command leaves it. A file of an output folder may be missing, and there
              may be a journal, as long as the folder is marked: mxfp4 verify refuses it as not finished
  others      files and links that the command does not write are untouched, those beside and inside the output too
  temporaries none after an error, none after the command has been given again
  again       the same command, given again, ends with the new state, to the byte; where that is there already, it may
              say so and end with exit code 1
  messages    no signal but the injected kill; after an error one line on standard error, which names the file
"""
import argparse
import concurrent.futures
import os
import random
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field

sys.dont_write_bytecode = True
from cases import make_cases, replacing_cases  # noqa: E402

CHANGING = {"open_output", "write", "ftruncate", "fallocate", "fsync", "fchmod", "rename", "unlink", "rmdir", "mkdir",
            "link", "symlink"}
NEEDS_ROOM = {"open_output", "write", "fallocate", "fsync", "close", "rename", "mkdir", "link", "symlink"}
NEEDS_PERMISSION = {"open_input", "open_output", "rename", "unlink", "rmdir", "mkdir", "link", "symlink"}
TEMPORARY = re.compile(r"\.tmp-")
JOURNAL = re.compile(r"(^|/)\.mxfp4(/|$)")
SHARD_REPORT = re.compile(r"(^|/)\.mxfp4/[^/]*\.safetensors\.json$")
REFUSED = re.compile(r"is there already|exists")
UNFINISHED = re.compile(r"not finished|unfinished")


def faults_of(call):
    """What can happen to a call. A kill leaves another state only where the call would have changed something."""
    yield from (["kill"] if call in CHANGING else [])
    yield from (["ENOSPC"] if call in NEEDS_ROOM else [])
    yield from (["EACCES"] if call in NEEDS_PERMISSION else [])
    yield "EIO"


def snapshot(root):
    """Relative path -> (type and permissions, content or target of the link) of everything below a folder."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            content = None
            if stat.S_ISLNK(mode):
                content = os.readlink(path)
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    content = file.read()
            found[os.path.relpath(path, root)] = (mode, content)
    return found


def differing(a, b):
    """A shard's report in the journal says when its sources were changed last, which differs from copy to copy."""
    return sorted(path for path in a.keys() | b.keys() if a.get(path) != b.get(path)
                  and not (path in a and path in b and SHARD_REPORT.search(path)))


@dataclass
class Result:
    calls: int = 0
    faults: Counter = field(default_factory=Counter)
    states: Counter = field(default_factory=Counter)
    problems: int = 0

    def add(self, name, where, problem):
        self.problems += 1
        print(f"{name}: {where}: {problem}", flush=True)


class Bench:
    """A folder for one case: what was there before, and room for runs from that state."""

    def __init__(self, args, case, scratch):
        self.args, self.case = args, case
        self.before_folder = os.path.join(scratch, case.name, "before")
        self.after_folder = os.path.join(scratch, case.name, "after")
        os.makedirs(self.before_folder)
        case.prepare(lambda *line: self.must(line, self.before_folder), self.before_folder)
        self.before = snapshot(self.before_folder)
        shutil.copytree(self.before_folder, self.after_folder, symlinks=True)
        log = os.path.join(scratch, case.name, "calls")
        done = self.mxfp4(case.line, self.after_folder, {"MXFP4_FAULT_LOG": log})
        if done.returncode != 0:
            sys.exit(f"{case.name}: {' '.join(case.line)}: exit code {done.returncode}: {done.stderr}")
        with open(log, encoding="utf-8", errors="surrogateescape") as file:
            self.calls = [tuple(line.rstrip("\n").split(" ", 1)) for line in file]
        self.after = snapshot(self.after_folder)
        self.problems = list(self.of_clean_run())
        for line in case.then:
            self.must(line, self.after_folder)
        self.final = snapshot(self.after_folder)

    def of_clean_run(self):
        for path in differing(self.before, self.after):
            if self.is_temporary(path):
                yield f"left {path}"
            elif not self.case.writes(path):
                yield f"wrote or removed {path}"
        yield from (f"did not remove {path}" for path in self.case.gone if path in self.after)

    def run(self, program, line, folder, fault):
        """Preloads the injector in any case: it does not wait for the disk."""
        asan = os.environ.get("ASAN_OPTIONS", "")
        environment = {**os.environ, "MXFP4_FAULT_LOG": os.devnull, **fault, "LD_PRELOAD": self.args.injector,
                       "MXFP4_FAULT_ROOT": os.path.realpath(folder), "ASAN_OPTIONS": asan + ":verify_asan_link_order=0"}
        return subprocess.run([program, *line], cwd=folder, env=environment, capture_output=True, text=True,
                              errors="replace", stdin=subprocess.DEVNULL)

    def mxfp4(self, line, folder, fault={}):
        return self.run(self.args.program, line, folder, fault)

    def must(self, line, folder):
        done = self.run(self.args.generate, line[1:], folder, {}) if line[0] == "generate" else self.mxfp4(line, folder)
        if done.returncode != 0:
            sys.exit(f"{self.case.name}: {' '.join(line)}: exit code {done.returncode}: {done.stderr}")

    def check(self, number, fault):
        """One run: the name of the state that it leaves, and what is wrong with it."""
        with tempfile.TemporaryDirectory() as scratch:
            folder, log = os.path.join(scratch, "work"), os.path.join(scratch, "log")
            shutil.copytree(self.before_folder, folder, symlinks=True)
            done = self.mxfp4(self.case.line, folder,
                              {"MXFP4_FAULT_LOG": log, "MXFP4_FAULT_AT": str(number), "MXFP4_FAULT": fault})
            with open(log, encoding="utf-8", errors="surrogateescape") as file:
                calls = [line.split(" ", 1)[0] for line in file]
            if calls[:number] != [call for call, _ in self.calls[:number]]:
                return "?", ["the calls are not those of the run without a fault"]
            found = snapshot(folder)
            problems = list(self.of_exit(done, number, fault, found))
            problems += self.of_files(found, fault)
            state = self.state_of(found)
            if state == "unfinished":
                problems += self.of_mark(folder)
            problems += self.of_again(folder, state)
            return state, problems

    def is_temporary(self, path):
        return TEMPORARY.search(path) is not None and path not in self.before

    def settled(self, found):
        """Without temporaries, and without folders that were made and hold nothing yet."""
        kept = {path: value for path, value in found.items() if not self.is_temporary(path)}
        for path in sorted(kept, reverse=True):
            is_empty = stat.S_ISDIR(kept[path][0]) and not any(other.startswith(path + "/") for other in kept)
            if is_empty and path not in self.before:
                del kept[path]
        return kept

    def state_of(self, found):
        kept = self.settled(found)
        return "old" if not differing(kept, self.before) else \
               "new" if not differing(kept, self.settled(self.after)) else "unfinished"

    def of_exit(self, done, number, fault, found):
        if fault == "kill":
            if done.returncode != -9:
                yield f"was not killed: exit code {done.returncode}"
            return
        if done.returncode == 0:
            if differing(found, self.after):
                yield f"exit code 0, but not the new state: {', '.join(differing(found, self.after))}"
            return
        if done.returncode != 1:
            yield f"exit code {done.returncode}: {done.stderr.strip()}"
        lines = done.stderr.splitlines()
        if len(lines) != 1 or not lines[0].startswith("mxfp4: "):
            yield f"expected one line on standard error: {done.stderr.strip()!r}"
        call = self.calls[number - 1]
        # Threads read a complete result: which file the n-th read is of differs from run to run.
        hit = [c for c in self.calls if c[0] == "read"] if call[0] == "read" else [call]
        said = done.stderr + done.stdout  # verify prints what it finds
        if not any(self.is_named(path, said) for _, path in hit):
            yield f"the message does not name {self.name_of(call[1])}: {done.stderr.strip()}"

    def of_files(self, found, fault):
        for path in differing(found, self.before):
            if path in found and found[path] == self.after.get(path):
                continue
            if self.is_temporary(path):
                if fault != "kill":
                    yield f"left {path}"
            elif JOURNAL.search(path) and self.case.folder:
                continue
            elif path not in found:
                if not self.case.writes(path):
                    yield f"removed {path}"
            else:
                yield f"{path} is neither old nor new"

    def name_of(self, path):
        """What a message says of the path of a call."""
        name = os.path.basename(TEMPORARY.split(path)[0].removesuffix(" (deleted)"))
        return "." if name == os.path.basename(self.after_folder) else name

    def is_named(self, path, message):
        """The folder of the outputs is named by what is in it: "its folder"."""
        name = self.name_of(path)
        return name in message or (name == "." and "its folder" in message)

    def of_mark(self, folder):
        if self.case.folder is None:
            return  # several files, of which each is old or new
        done = self.mxfp4(["verify", self.case.folder], folder)
        if done.returncode != 1 or not UNFINISHED.search(done.stdout + done.stderr):
            said = (done.stderr + done.stdout).splitlines()
            yield f"verify does not say that it is unfinished: exit code {done.returncode}: {''.join(said[:1])}"

    def of_again(self, folder, state):
        for line in [self.case.line, *self.case.then]:
            done = self.mxfp4(line, folder)
            refused = state == "new" and line is self.case.line and REFUSED.search(done.stderr)
            if done.returncode != 0 and not refused:
                yield f"again: exit code {done.returncode}: {done.stderr.strip()}"
                return
        if wrong := differing(snapshot(folder), self.final):
            yield f"again: not the new state: {', '.join(wrong)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True, help="mxfp4")
    parser.add_argument("--generate", required=True, help="mxfp4_generate")
    parser.add_argument("--injector", required=True, help="inject.cpp as a library")
    parser.add_argument("--sample", type=int, default=0, help="so many faults of each command, always the same; 0: all")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="", help="commands in whose name this is found")
    args = parser.parse_args()
    args.program, args.generate, args.injector = map(os.path.abspath, (args.program, args.generate, args.injector))

    results = {}
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for case in [*make_cases(), *replacing_cases()]:
            if args.only not in case.name:
                continue
            bench = Bench(args, case, scratch)
            result = results[case.name] = Result(calls=len(bench.calls))
            for problem in bench.problems:
                result.add(case.name, "without a fault", problem)
            faults = [(i + 1, fault) for i, (call, _) in enumerate(bench.calls) for fault in faults_of(call)]
            if 0 < args.sample < len(faults):
                faults = sorted(random.Random(case.name).sample(faults, args.sample))
            for (number, fault), (state, problems) in zip(faults, pool.map(lambda f: bench.check(*f), faults)):
                result.faults[fault] += 1
                result.states[state] += 1
                for problem in problems:
                    call, path = bench.calls[number - 1]
                    result.add(case.name, f"{fault} at call {number}, {call} {path}", problem)

    print("| command | calls | kill | ENOSPC | EIO | EACCES | old | new | unfinished | wrong |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, r in results.items():
        counts = [r.calls, *(r.faults[f] for f in ("kill", "ENOSPC", "EIO", "EACCES")),
                  *(r.states[s] for s in ("old", "new", "unfinished")), r.problems]
        print(f"| {name} | " + " | ".join(map(str, counts)) + " |")
    return 1 if not results or any(r.problems or r.states['?'] for r in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
