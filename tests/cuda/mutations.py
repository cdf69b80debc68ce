#!/usr/bin/env python3
r"""tests/cuda/mutations.py -- plants the classic bugs of kernels, one at a time, and asks whether the emulated tests notice.

SPDX-License-Identifier: Apache-2.0

Usage: mutations.py --compiler CXX --flag=... --library=... [--only WORD]

mutations.txt says how it is written. A mutant is noticed if its test fails; one that does not compile is an error of the
list, as is a text that is not there, once.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def read_list():
    file = test = None
    lines = [line for line in (HERE / "mutations.txt").read_text().split("\n") if line and not line.startswith("#")]
    while lines:
        if section := re.fullmatch(r"\[(\S+): (\S+)\]", lines[0]):
            file, test = section.groups()
            lines = lines[1:]
            continue
        bug, lines = lines[:3], lines[3:]
        if file is None or len(bug) != 3 or bug[1][:2] != "- " or bug[2][:1] != "+":
            sys.exit("mutations.txt: expected what it is, '- ' and a text, '+ ' and a text, in:\n" + "\n".join(bug))
        old, new = (text[2:].replace("\\n", "\n") for text in bug[1:])
        yield bug[0], test, file, old, new


def run(what, test, file, old, new, options):
    """Returns what is wrong, or None."""
    with tempfile.TemporaryDirectory() as folder:
        include = pathlib.Path(folder) / "include"
        shutil.copytree(ROOT / "include", include)
        header = include / "mxfp4" / "cuda" / file
        text = header.read_text()
        if text.count(old) != 1:
            return f"'{old}' is {text.count(old)} times in {file}, expected once: mend mutations.txt"
        header.write_text(text.replace(old, new))
        program = pathlib.Path(folder) / "program"
        compiled = subprocess.run(
            [options.compiler, "-std=c++20", "-O0", '-DMXFP4_CUDA_EMULATOR="cuda/emulator/emulator.hpp"', f"-I{include}", f"-I{ROOT / 'tests'}", *options.flag, "-pthread",
             str(HERE / f"{test}.test.cpp"), "-o", str(program), *options.library], capture_output=True, text=True)
        if compiled.returncode != 0:
            return f"does not compile:\n{compiled.stderr[:2000]}"
        try:
            if subprocess.run([program], capture_output=True, timeout=300).returncode == 0:
                return f"{test} does not notice it"
        except subprocess.TimeoutExpired:
            pass  # noticed: it hangs
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--compiler", default="c++")
    parser.add_argument("--flag", action="append", default=[], help="for the compiler; may be given again")
    parser.add_argument("--library", action="append", default=[], help="to link; may be given again")
    parser.add_argument("--only", default="", help="bugs whose description has this word")
    options = parser.parse_args()
    survived = total = 0
    for what, test, file, old, new in read_list():
        if options.only not in f"{what} {file}":
            continue
        total += 1
        wrong = run(what, test, file, old, new, options)
        survived += wrong is not None
        print(f"{'SURVIVED' if wrong else 'noticed':8}  {file}: {what}" + (f"\n          {wrong}" if wrong else ""), flush=True)
    print(f"{total - survived} of {total} noticed")
    sys.exit(1 if survived or not total else 0)


main()
