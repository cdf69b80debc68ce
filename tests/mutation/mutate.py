#!/usr/bin/env python3
# tests/mutation/mutate.py -- breaks the headers one token at a time and asks whether the tests notice.
# SPDX-License-Identifier: Apache-2.0
"""Mutates comparison, arithmetic, shift, bit and constant tokens of the scalar headers, in private copies.

A mutant is noticed if a header no longer compiles (the headers carry static_asserts) or a test fails; the tests named
first for its header run first, then all the others. Survivors must be listed in survivors.txt with the reason why they
are equivalent: `header | line text | old -> new at column | reason`. Exit code 0: at least --least percent are noticed or listed
equivalents, and every survivor is listed.
"""
import argparse
import concurrent.futures
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TESTS = HERE.parent
HEADERS = TESTS.parent / "include" / "mxfp4"

# header -> the tests most likely to notice, fastest first
TESTS_OF = {
    "core/bits": ["bits.property"],
    "core/e2m1": ["e2m1.golden", "dialect.golden"],
    "core/e8m0": ["e8m0.golden"],
    "core/float_types": ["float_types.exhaustive"],
    "format/rounding": ["rounding.golden", "rounding.stochastic", "recipe.golden"],
    "format/scale_rule": ["recipe.golden", "scale_rule.exhaustive"],
    "format/nibble": ["nibble.property"],
    "format/dialect": ["dialect.golden"],
    "format/recipe": ["recipe.golden", "recipe.min_mse", "recipe.property"],
    "format/recipe_id": ["recipe.property"],
    "format/block": ["block.property"],
    "format/peer_cast": ["peer_cast.golden"],
    "tensor/layout": ["layout.golden"],
    "tensor/view": ["view.bad_input", "quantize.bad_input"],
    "tensor/encode_row": ["quantize.equal", "quantize.bad_input"],
    "tensor/convert": ["convert.property"],
    "reference/quantize": ["quantize.bad_input", "quantize.equal"],
    "reference/gemm": ["reference.accuracy"],
}

# Binary operators stand between spaces (clang-format sees to it), so template brackets never match.
SWAPS = {
    "<": ["<=", ">"], "<=": ["<", ">"], ">": [">=", "<"], ">=": [">", "<"], "==": ["!="], "!=": ["=="],
    "+": ["-"], "-": ["+"], "*": ["+"], "/": ["*"], "%": ["/"],
    "<<": [">>"], ">>": ["<<"], "&": ["|"], "|": ["&"], "^": ["|"], "&&": ["||"], "||": ["&&"],
}
OPERATOR = re.compile(r"(?<= )(<<|>>|<=|>=|==|!=|&&|\|\||[<>+\-*/%&|^])(?= )")
NUMBER = re.compile(r"(?<![\w.])(0x[0-9A-Fa-f]+|\d+)(?=u?\b)(?![.\w]*p|\.\d)")


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def code_only(text):
    """The text with comments, literals, directives and proofs blanked, positions kept: a proof is a test, not its subject."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", blank, text, flags=re.S)
    text = re.sub(r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'', blank, text)
    text = re.sub(r"^#.*$", blank, text, flags=re.M)
    text = re.sub(r"static_assert\(.*?\);", blank, text, flags=re.S)
    text = re.sub(r"(?:template <[^\n]*>\n)?\[\[nodiscard\]\] consteval bool .*?\n\}\n", blank, text, flags=re.S)
    text = re.sub(r"ocp_fp4\[8\] = \{.*?\};", blank, text, flags=re.S)
    return re.sub(r"^\s*(?:requires|template|concept|\{ ).*$", blank, text, flags=re.M)


def candidates(header):
    text = (HEADERS / f"{header}.hpp").read_text()
    code = code_only(text)
    for match in OPERATOR.finditer(code):
        for new in SWAPS[match.group()]:
            yield header, match.start(), match.group(), new
    for match in NUMBER.finditer(code):
        value = int(match.group(), 0)
        style = (lambda n, hexadecimal=match.group().startswith("0x"): hex(n) if hexadecimal else str(n))
        yield header, match.start(), match.group(), style(value + 1)
        if value > 0:
            yield header, match.start(), match.group(), style(value - 1)


def describe(mutant):
    """Line number, and what identifies a mutant in survivors.txt; the column tells equal tokens of a line apart."""
    header, position, old, new = mutant
    text = (HEADERS / f"{header}.hpp").read_text()
    number, start = text.count("\n", 0, position) + 1, text.rfind("\n", 0, position) + 1
    line = text[start:].split("\n", 1)[0]
    column = position - start - (len(line) - len(line.lstrip())) + 1
    return number, f"{header}.hpp | {line.strip()} | {old} -> {new} at {column}"


class Runner:
    def __init__(self, args):
        self.args = args
        self.names = sorted(p.name.removesuffix(".test.cpp") for p in TESTS.glob("*.test.cpp")
                            if p.name.removesuffix(".test.cpp") in args.tests)

    def build_and_run(self, name, include, folder):
        program = folder / name
        flags = ["-std=c++20", "-O1", "-w", f"-I{include}", f"-I{TESTS}", *self.args.flag]
        built = subprocess.run([self.args.compiler, *flags, str(TESTS / f"{name}.test.cpp"), "-o", str(program),
                                *self.args.library], capture_output=True, text=True)
        if built.returncode != 0:
            return f"{name} does not compile", built.stderr
        try:
            ran = subprocess.run([str(program), "~[.slow]", "--abort"], capture_output=True, text=True,
                                 timeout=self.args.timeout)
        except subprocess.TimeoutExpired:
            return f"{name} does not end", ""
        finally:
            program.unlink(missing_ok=True)
        return (None, "") if ran.returncode in (0, 4) else (f"{name} fails", ran.stdout[-2000:])

    def judge(self, mutant):
        header, position, old, new = mutant
        with tempfile.TemporaryDirectory(prefix="mutant.") as temporary:
            folder = pathlib.Path(temporary)
            shutil.copytree(HEADERS, folder / "include" / "mxfp4")
            target = folder / "include" / "mxfp4" / f"{header}.hpp"
            text = target.read_text()
            target.write_text(text[:position] + new + text[position + len(old):])
            everything = folder / "all.cpp"
            everything.write_text("#include <mxfp4/tensor/convert.hpp>\n#include <mxfp4/format/peer_cast.hpp>\n"
                                  "#include <mxfp4/reference/gemm.hpp>\n")
            if subprocess.run([self.args.compiler, "-std=c++20", "-fsyntax-only", "-w", f"-I{folder / 'include'}",
                               str(everything)], capture_output=True).returncode != 0:
                return mutant, "the headers do not compile"
            likely = [n for n in TESTS_OF[header] if n in self.names]
            for name in likely + [n for n in self.names if n not in likely]:
                verdict, _ = self.build_and_run(name, folder / "include", folder)
                if verdict:
                    return mutant, verdict
        return mutant, None


def listed_equivalents():
    path = HERE / "survivors.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    entries = [line.rsplit(" | ", 2) for line in lines if line.strip() and not line.startswith("#")]
    return {f"{mutated} | {change}": reason for mutated, change, reason in entries}   # code may hold a bar too


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--flag", action="append", default=[], help="compiler flag, e.g. -I or -D")
    parser.add_argument("--library", action="append", default=[], help="what to link: Catch2's main and library")
    parser.add_argument("--tests", type=lambda s: s.split(","), required=True, help="test names, separated by commas")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--least", type=float, default=95.0, help="per cent of the mutants that must be noticed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--timeout", type=int, default=120, help="seconds for one test of one mutant")
    parser.add_argument("--list", action="store_true", help="only print the sampled mutants")
    args = parser.parse_args()

    population = sorted({c for header in TESTS_OF for c in candidates(header)})
    sample = random.Random(args.seed).sample(population, min(args.count, len(population)))
    if args.list:
        for mutant in sample:
            print("%d: %s" % describe(mutant))
        return 0

    runner = Runner(args)
    with tempfile.TemporaryDirectory(prefix="mutant.none.") as temporary:   # the tests must pass before they can fail
        for name in runner.names:
            verdict, output = runner.build_and_run(name, HEADERS.parent, pathlib.Path(temporary))
            if verdict:
                sys.exit(f"mutate.py: without any mutation {verdict}:\n{output}")

    equivalents, noticed, excused, unexplained = listed_equivalents(), 0, [], []
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for done, (mutant, verdict) in enumerate(pool.map(runner.judge, sample), 1):
            number, text = describe(mutant)
            if verdict:
                noticed += 1
            elif text in equivalents:
                excused.append(text)
            else:
                unexplained.append(text)
            print(f"[{done}/{len(sample)}] {text.replace(' | ', f':{number} | ', 1)}: {verdict or 'SURVIVED'}", flush=True)

    share = 100.0 * noticed / len(sample)
    print(f"\n{len(sample)} mutants of {len(population)}, seed {args.seed}: {noticed} noticed ({share:.1f} %), "
          f"{len(excused)} listed as equivalent, {len(unexplained)} unexplained")
    for text in excused:
        print(f"  equivalent: {text} | {equivalents[text]}")
    for text in unexplained:
        print(f"  UNEXPLAINED: {text}")
    return 0 if share >= args.least and not unexplained else 1


if __name__ == "__main__":
    sys.exit(main())
