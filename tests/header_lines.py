#!/usr/bin/env python3
# tests/header_lines.py -- no public header pulls more preprocessed lines than the ceiling that is committed for it.
# SPDX-License-Identifier: Apache-2.0
#
#   header_lines.py [--update] INCLUDE CEILINGS COMPILER [OPTION...]
#
# INCLUDE: the folder include; the public headers are those of mxfp4, mxfp4/io and mxfp4/checkpoint below it.
# CEILINGS: a text file, "header lines" each line. Lines are those of `COMPILER -E -P`, with the standard library's and
# xsimd's. A header without a ceiling fails, and so does a ceiling without its header. --update writes the file.
# Ends with 77, skipped, where the standard library is another than the one that the ceilings were counted with.
import pathlib
import subprocess
import sys

PUBLIC = ("mxfp4", "mxfp4/io", "mxfp4/checkpoint")
ROOM = 1.03  # above what was counted, for --update: the libraries' patch releases
COUNTED_WITH = "12"  # _GLIBCXX_RELEASE


def preprocessed(compiler, text, *flags):
    done = subprocess.run([*compiler, "-E", "-P", *flags, "-x", "c++", "-"], input=text, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(compiler)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def main():
    arguments = sys.argv[1:]
    update = arguments[:1] == ["--update"]
    include, ceilings, *compiler = arguments[1:] if update else arguments
    include, ceilings = pathlib.Path(include), pathlib.Path(ceilings)
    compiler += ["-std=c++20", f"-I{include}"]
    library = preprocessed(compiler, "#include <version>\n_GLIBCXX_RELEASE\n").split()[-1]
    if library != COUNTED_WITH:
        print(f"skipped: the ceilings were counted with libstdc++ {COUNTED_WITH}, this is {library}")
        return 77
    headers = sorted(h.relative_to(include).as_posix() for folder in PUBLIC for h in (include / folder).glob("*.hpp"))
    lines = {h: preprocessed(compiler, f'#include "{h}"\n').count("\n") for h in headers}
    if update:
        ceilings.write_text("".join(f"{h} {int(n * ROOM / 100 + 1) * 100}\n" for h, n in lines.items()))
        return 0
    allowed = {h: int(n) for h, n in (line.split() for line in ceilings.read_text().splitlines())}
    faults = [f"{h}: {n} preprocessed lines, expected {allowed[h]} at the most: include less, or raise its ceiling"
              for h, n in lines.items() if h in allowed and n > allowed[h]]
    faults += [f"{h}: no ceiling, expected a line in {ceilings}" for h in lines if h not in allowed]
    faults += [f"{h}: a ceiling in {ceilings}, expected its header" for h in allowed if h not in lines]
    print("\n".join(faults) or f"{len(lines)} headers, {sum(lines.values())} lines")
    return 1 if faults else 0


sys.exit(main())
