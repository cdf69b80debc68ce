# examples/minimax/text.py -- the text that the model learns: the King James Bible of Debian's bible-kjv.
# SPDX-License-Identifier: Apache-2.0
#
#   text.py held_out.txt                     writes what is held out
#   text.py held_out.txt calibration.txt     and what a calibration learns from: a part of what the model learned
#   text.py held_out.txt calibration.txt validation.txt      and what its parameters were chosen on: another part
#
# A verse is a line, a chapter ends with an empty line. Every 32nd chapter is held out: the model never sees it. The
# 16th of each 32 is for calibrating, the 8th for trying parameters of that.
import re
import subprocess
import sys

HELD_OUT_EVERY = 32
CALIBRATION, VALIDATION = 15, 7     # of each 32, counted from 0; held out is the last


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


def every(place):
    """The chapters at this place of each 32."""
    return b"".join(c for i, c in enumerate(chapters()) if i % HELD_OUT_EVERY == place)


if __name__ == "__main__":
    for name, content in zip(sys.argv[1:], (lambda: split()[1], lambda: every(CALIBRATION), lambda: every(VALIDATION))):
        with open(name, "wb") as file:
            file.write(content())
