#!/usr/bin/env python3
# bench/peers/compare.py -- this tree beside other commits of it and beside peers' shared objects, in one process.
# SPDX-License-Identifier: Apache-2.0
#
#   compare.py --commit b8b6007                        the last one named is what speeds are relative to
#   compare.py --march x86-64-v3 --tokens 1 --tokens 8 --shape 4096x4096 --commit HEAD~1
#   compare.py --peer ./libsomething.so                an object with the six functions of peer.h
#
# All commits are compiled by the same compiler with the same flags.
import argparse
import contextlib
import datetime
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
COMPILER = os.environ.get("CXX", "c++")


def git(*arguments):
    return subprocess.run(["git", "-C", SOURCE, *arguments], capture_output=True, text=True, check=True).stdout.strip()


def compile_peer(include, name, march, output, source="mxfp4_peer.cpp"):
    subprocess.run([COMPILER, "-std=c++20", "-O3", "-DNDEBUG", f"-march={march}", "-fPIC", "-shared", "-fvisibility-inlines-hidden",
                    "-Wl,-Bsymbolic", "-DMXFP4_KERNELS=1", f'-DMXFP4_PEER_NAME="{name}"', f"-I{include}", f"-I{HERE}",
                    "-isystem", SOURCE / "build/deps/usr/include", HERE / source, "-o", output], check=True)


def main():
    parser = argparse.ArgumentParser(description="Products of this tree beside others', timed in turns.")
    parser.add_argument("--commit", action="append", default=[], help="another commit of this library")
    parser.add_argument("--peer", action="append", default=[], help="a shared object with the functions of peer.h")
    parser.add_argument("--march", default="native", help="what commits are compiled for")
    for option in ("--shape", "--tokens", "--product"):
        parser.add_argument(option, action="append", default=[])
    for option in ("--rounds", "--base"):
        parser.add_argument(option)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="compare.") as name:
        folder = pathlib.Path(name)
        program = folder / "compare"
        subprocess.run([COMPILER, "-std=c++20", "-O2", HERE / "compare.cpp", "-o", program, "-ldl"], check=True)
        changed = "+" if git("status", "--porcelain", "include") else ""
        objects = [folder / "now.so"]
        compile_peer(SOURCE / "include", git("rev-parse", "--short", "HEAD") + changed, options.march, objects[0])
        for number, commit in enumerate(options.commit):
            if subprocess.run(["git", "-C", SOURCE, "rev-parse", "--quiet", "--verify", commit + "^{commit}"],
                              capture_output=True).returncode != 0:
                sys.exit(f"--commit {commit}: git knows no such commit")
            tree = folder / f"tree{number}"
            tree.mkdir()
            archive = subprocess.run(["git", "-C", SOURCE, "archive", commit, "include"], capture_output=True, check=True)
            subprocess.run(["tar", "-x", "-C", tree], input=archive.stdout, check=True)
            objects.append(folder / f"commit{number}.so")
            compile_peer(tree / "include", git("rev-parse", "--short", commit), options.march, objects[-1])
        objects[1:1] = [pathlib.Path(peer).resolve() for peer in options.peer]
        command = [program]
        for option in ("shape", "tokens", "product"):
            for value in getattr(options, option):
                command += [f"--{option}", value]
        for option in ("rounds", "base"):
            if getattr(options, option):
                command += [f"--{option}", getattr(options, option)]
        model = None
        with contextlib.suppress(OSError):
            model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
        compiler = subprocess.run([COMPILER, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]
        print(f"{model.group(1) if model else platform.machine()}, -march={options.march}, {compiler}, "
              f"{datetime.date.today()}, load {os.getloadavg()[0]:.1f}", flush=True)
        sys.exit(subprocess.run([*command, *objects]).returncode)


if __name__ == "__main__":
    main()
