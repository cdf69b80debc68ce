#!/usr/bin/env python3
# docs/site/examples.py -- every example of the manual and of the public page as one file of C++.
# SPDX-License-Identifier: Apache-2.0
"""examples.py SOURCE OUT.cpp: the blocks of C++ in SOURCE/docs/*.md and the examples in the banners of
SOURCE/include/mxfp4/*.hpp, each in a namespace of its own.

An example that begins with a struct, a class or a template is a declaration; any other is the body of a Catch2 test
case, whose variables docs.examples.support.hpp has, and that requires its status `s` to be ok, if it has one.
"""
import pathlib
import re
import sys

BLOCK = re.compile(r"^```cpp\n(.*?)^```$", re.M | re.S)
DECLARATION = re.compile(r"(struct|class|template|namespace|enum)\b")


def of_page(path):
    text = path.read_text()
    for match in BLOCK.finditer(text):
        yield text.count("\n", 0, match.start()) + 2, match[1].split("\n")


def of_header(path):
    lines = path.read_text().split("\n")
    if "// Example:" not in lines:
        raise SystemExit(f"{path}: has no line '// Example:', which every header of the public page has in its banner")
    first = lines.index("// Example:") + 2
    end = first
    while lines[end].startswith("//   ") or (lines[end] == "//" and lines[end + 1].startswith("//   ")):
        end += 1
    yield first + 1, [line[5:] for line in lines[first:end]]


def statement(line):
    return line and not line.startswith(("#", "//"))


def test_case(path, line, code, number):
    first = next(filter(statement, code))
    source = [f'#line {line} "{path}"', *("" if part.startswith("#include") else part for part in code)]
    if DECLARATION.match(first):
        body = source
    else:
        has_status = any(re.search(r"\bstatus s\b", part) for part in code)
        check = ["INFO(mxfp4::message(s).c_str());", "CHECK(s.ok());"] if has_status else []
        variables = ["given all;", "MXFP4_GIVEN(all);"] if path.suffix == ".md" else []   # a header's has its own
        body = [f'TEST_CASE("{path}:{line}", "[docs]") {{', *variables, *source, *check, "}"]
    return [f"namespace example_{number} {{", *body, f"}}  // namespace example_{number}", ""]


def main(source, out):
    found = [(file, of_header) for file in sorted((source / "include/mxfp4").glob("*.hpp"))]
    found += [(file, of_page) for file in sorted((source / "docs").glob("*.md"))]
    examples = [(file.relative_to(source), line, code) for file, read in found for line, code in read(file)]
    includes = {f"#include <mxfp4/{file.name}>" for file in (source / "include/mxfp4").glob("*.hpp")}
    includes |= {line for _, _, code in examples for line in code if line.startswith("#include")}
    text = ["// Written by docs/site/examples.py: the examples of the manual and of the public page.",
            "// SPDX-License-Identifier: Apache-2.0",
            '#pragma GCC diagnostic ignored "-Wunused-but-set-variable"   // an example may end with its result',
            '#pragma GCC diagnostic ignored "-Wunused-variable"', *sorted(includes),
            '#include "docs.examples.support.hpp"', ""]
    for number, (path, line, code) in enumerate(examples, 1):
        text += test_case(path, line, code, number)
    out.write_text("\n".join(text))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
