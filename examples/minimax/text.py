# examples/minimax/text.py -- the text that the model learns: the King James Bible of Debian's bible-kjv.
# SPDX-License-Identifier: Apache-2.0
#
#   text.py held_out.txt      writes what is held out
#
# A verse is a line, a chapter ends with an empty line. Every 32nd chapter is held out: the model never sees it.
import re
import subprocess
import sys

HELD_OUT_EVERY = 32


def chapters():
    """The chapters in the order of the book, as bytes."""
    verses = subprocess.run(["bible", "-f", "Gen1:1-Rev22:21"], check=True, capture_output=True).stdout
    found = {}
    for line in verses.splitlines():
        reference, text = re.fullmatch(rb"(\w+?\d+):\d+ (.*)", line).groups()
        found.setdefault(reference, []).append(text.strip())
    return [b"\n".join(lines) + b"\n\n" for lines in found.values()]


def split():
    """(text to learn from, held-out text)"""
    every = list(enumerate(chapters()))
    return (b"".join(c for i, c in every if i % HELD_OUT_EVERY != HELD_OUT_EVERY - 1),
            b"".join(c for i, c in every if i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1))


if __name__ == "__main__":
    with open(sys.argv[1], "wb") as file:
        file.write(split()[1])
