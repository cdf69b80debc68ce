#!/usr/bin/env python3
# cmake/single_header.py -- mxfp4::format as one header, which includes the standard library alone.
# SPDX-License-Identifier: Apache-2.0
"""single_header.py OUT.hpp: the root headers of mxfp4::format, each header once and at its first place; no kernels."""
import os
import re
import sys

ROOT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "include")
PAGES = ["version", "status", "executor", "block", "recipe", "layout", "view", "convert", "quantize"]  # CMakeLists.txt
INCLUDE = re.compile(r'#include "(mxfp4/[^"]+)"')
BANNER = """\
// mxfp4_format.hpp -- mxfp4::format {version} in one header: MXFP4 encoded and decoded, any recipe, layout and dialect.
// SPDX-License-Identifier: Apache-2.0
//
// Written by cmake/single_header.py from the headers of mxfp4, which are where to change and to read it. A program takes
// either this or those.
#pragma once
#define MXFP4_KERNELS 0
"""


def version():
    with open(os.path.join(ROOT, "mxfp4/core/version.hpp"), encoding="utf-8") as file:
        parts = re.findall(r"define MXFP4_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", file.read())
    if len(parts) != 3:
        sys.exit(f"core/version.hpp has {len(parts)} of MXFP4_VERSION_MAJOR, MINOR and PATCH, expected 3")
    return ".".join(parts)


def without_kernels(lines, path):
    """What the preprocessor keeps of `#if MXFP4_KERNELS`, which is 0 here."""
    kept, inside = [], None                       # of such an #if: None outside, False in what goes, True in its #else
    for line in lines:
        if line.startswith("#if MXFP4_KERNELS"):
            inside = False
        elif inside is not None and line.startswith("#else"):
            inside = True
        elif inside is not None and line.startswith("#endif"):
            inside = None
        elif inside is not False:
            kept.append(line)
        elif line.startswith("#if"):
            sys.exit(f"single_header.py: {path}: an #if inside #if MXFP4_KERNELS, which this script does not read")
    return kept


def text_of(name, done):
    if name in done:
        return []
    done.add(name)
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        lines = without_kernels(file.read().splitlines(), name)
    text = []
    for line in lines:
        found = INCLUDE.match(line)
        if found:
            text += text_of(found[1], done)
        elif line.strip() not in ("#pragma once", "// SPDX-License-Identifier: Apache-2.0"):
            text.append(line)
    return text


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    if os.path.exists(sys.argv[1]):
        with open(sys.argv[1], encoding="utf-8", errors="replace") as file:
            if file.readline() != BANNER.split("\n")[0].format(version=version()) + "\n":
                sys.exit(f"{sys.argv[1]} is there and was not written by this script: give another name, or remove it")
    done = set()
    lines = [line for page in PAGES for line in text_of(f"mxfp4/{page}.hpp", done)]
    text = BANNER.format(version=version()) + re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"
    temporary = f"{sys.argv[1]}.tmp-{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, sys.argv[1])


if __name__ == "__main__":
    main()
