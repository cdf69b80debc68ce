# tests/fault_injector/cases.py -- the commands that write, and what is there before each.
# SPDX-License-Identifier: Apache-2.0
"""Paths are relative to a case's folder, in which its command runs."""
import fnmatch
import os
import shutil
import struct
from dataclasses import dataclass, field
from typing import Callable

# What is known to be wrong and not yet mended: patterns of a command and of what is said of it.
TINY = ["--hidden", "64", "--intermediate", "64", "--vocabulary", "64", "--heads", "2", "--key-value-heads", "1",
        "--head-dim", "16", "--layers", "1", "--experts", "2"]


@dataclass
class Case:
    name: str
    line: list                       # the command
    prepare: Callable                # (must, folder): makes what is there before; must(...) runs a command
    folder: str = None               # the output, where it is one that mxfp4 verify can judge
    files: list = field(default_factory=list)    # patterns of what else it writes
    others: list = field(default_factory=list)   # in its outputs, what the command must leave alone
    gone: list = field(default_factory=list)     # what must not be there afterwards
    then: list = field(default_factory=list)     # commands that complete the output

    def writes(self, path):
        """Is this path the command's to write and to remove?"""
        inside = [] if self.folder is None else [self.folder, self.folder + "/*"]
        return any(fnmatch.fnmatch(path, p) for p in inside + self.files) and \
            not any(fnmatch.fnmatch(path, p) for p in self.others)


def write(folder, name, content):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


def plant(folder):
    """Others' files beside the outputs: with names like ours, and links."""
    for name in ["out.notes", "notes/out", "mine.tmp-1-0", "model.safetensors"]:
        write(folder, name, f"mine: {name}\n")
    os.symlink("notes/out", os.path.join(folder, "link"))
    os.symlink("nowhere", os.path.join(folder, "dangling"))


def source(must, folder, *options):
    must("generate", "--checkpoint", "in", *TINY, *options)
    plant(folder)


def one_shard(must, folder):
    source(must, folder, "--shards", "1")


def quantized(must, folder, *options):
    source(must, folder, "--shards", "2")
    must("quantize", "in", "m", "--threads", "1", *options)


def single(must, folder):
    """in.safetensors, and the same in MXFP4."""
    one_shard(must, folder)
    shutil.copyfile(os.path.join(folder, "in/model.safetensors"), os.path.join(folder, "in.safetensors"))
    must("quantize", "in.safetensors", "m.safetensors", "--include", "experts")


def two_results(must, folder):
    """m and m0, of one source by two recipes, and tokens for it."""
    quantized(must, folder)
    must("quantize", "in", "m0", "--threads", "1", "--recipe", "ocp")
    write(folder, "ids", "1 2 3 4 5 6 7 8\n")


def numbers(must, folder):
    """An array of numbers, and what encode makes of it."""
    plant(folder)
    write(folder, "numbers", struct.pack("<256f", *(0.01 * (i % 37) - 0.2 for i in range(256))))
    must("encode", "numbers", "--recipe", "ocp", "--packed", "codes", "--scale", "scales")


def make_cases():
    def case(name, line, prepare, **rest):
        return Case(name, line.split(), prepare, **rest)

    def two_shards(must, folder):
        source(must, folder, "--shards", "2")

    def begun(must, folder):
        two_shards(must, folder)
        must("quantize", "in", "out", "--rank", "0", "--world", "2", "--threads", "1")

    def all_ranks(must, folder):
        begun(must, folder)
        must("quantize", "in", "out", "--rank", "1", "--world", "2", "--threads", "1")

    def complete(must, folder):
        two_shards(must, folder)
        must("quantize", "in", "out", "--threads", "1")

    def other_recipe(must, folder):
        two_shards(must, folder)
        must("quantize", "in", "out", "--threads", "1", "--recipe", "ocp")

    def with_others(must, folder):
        """The result of another source, with a file more, and with files of the user's and links inside."""
        other_recipe(must, folder)
        shutil.rmtree(os.path.join(folder, "out"))
        shutil.copytree(os.path.join(folder, "in"), os.path.join(folder, "in0"))
        write(folder, "in0/extra.json", "{}\n")
        write(folder, "in0/more/extra.json", "{}\n")
        must("quantize", "in0", "out", "--threads", "1", "--recipe", "ocp")
        for name in ["adapter.safetensors", "mine/model-00001-of-00001.safetensors", "README.md"]:
            write(folder, "out/" + name, f"mine: {name}\n")
        os.symlink("../notes/out", os.path.join(folder, "out/notes"))
        os.symlink("../notes/out", os.path.join(folder, "out/linked.safetensors"))

    def link_out(folder):
        """Files of the output become links to files of the user's. A folder that is a link is refused."""
        for name in ["config.json", "tokenizer.json", "LICENSE"]:
            write(folder, "elsewhere/" + name, f"mine: {name}\n")
        for name in ["config.json", "tokenizer.json", "LICENSE"]:
            path = os.path.join(folder, "out", name)
            if os.path.exists(path):
                os.remove(path)
            os.symlink("../elsewhere/" + name, path)

    def with_links(must, folder):
        other_recipe(must, folder)
        link_out(folder)
        shard = "model-00000-of-00003.safetensors"
        shutil.move(os.path.join(folder, "out", shard), os.path.join(folder, "elsewhere", shard))
        os.symlink("../elsewhere/" + shard, os.path.join(folder, "out", shard))

    def begun_with_links(must, folder):
        two_shards(must, folder)
        must("quantize", "in", "out", "--rank", "1", "--world", "2", "--threads", "1")
        link_out(folder)

    def without_index(must, folder):
        two_shards(must, folder)
        os.remove(os.path.join(folder, "in/model.safetensors.index.json"))
        os.remove(os.path.join(folder, "in/leftover.safetensors"))

    def with_other_index(must, folder):
        without_index(must, folder)
        write(folder, "in/model.safetensors.index.json", "mine\n")

    def with_new_template(must, folder):
        quantized(must, folder)
        write(folder, "m/tokenizer.json", "{}\n")

    def stacked(must, folder):
        quantized(must, folder)
        must("convert", "m", "s", "--to", "stacked")

    def gguf(must, folder):
        quantized(must, folder)
        must("convert", "m", "m.gguf", "--to", "gguf")

    quantize = "quantize in out --threads 1"
    cases = [
        case("quantize FILE", "quantize in.safetensors out.safetensors --threads 1", single, files=["out.safetensors"]),
        case("quantize DIR", quantize, two_shards, folder="out"),
        case("quantize DIR, one shard", quantize, one_shard, folder="out"),
        case("quantize DIR, cut", quantize + " --max-shard-size 60000", one_shard, folder="out"),
        case("quantize DIR, begun before", quantize, begun, folder="out"),
        case("quantize DIR, complete", quantize, complete, folder="out"),
        case("quantize DIR --rank", quantize + " --rank 1 --world 2", two_shards, folder="out",
             then=[["quantize", "in", "out", "--rank", "0", "--world", "2"], ["merge", "out"]]),
        case("quantize DIR --overwrite", quantize + " --overwrite", other_recipe, folder="out"),
        case("quantize DIR --overwrite, others' files", quantize + " --overwrite", with_others, folder="out",
             others=["out/adapter.safetensors", "out/mine*", "out/README.md", "out/notes", "out/linked.safetensors"],
             gone=["out/extra.json", "out/more"]),
        case("quantize DIR --overwrite, links inside", quantize + " --overwrite", with_links, folder="out"),
        case("quantize DIR, links inside", quantize, begun_with_links, folder="out"),
        case("merge", "merge out", all_ranks, folder="out"),
        case("dequantize FILE", "dequantize m.safetensors out.safetensors", single, files=["out.safetensors"]),
        case("dequantize DIR", "dequantize m out", quantized, folder="out"),
        case("convert DIR --to stacked", "convert m out --to stacked", quantized, folder="out"),
        case("convert DIR --to gpt-oss", "convert m out --to gpt-oss", quantized, folder="out"),
        case("convert DIR --to block-fp8", "convert m out --to block-fp8", quantized, folder="out"),
        case("convert DIR --to gguf", "convert m out.gguf --to gguf", quantized, files=["out.gguf"]),
        case("convert DIR FILE", "convert m out.safetensors --to stacked", quantized, files=["out.safetensors"]),
        case("convert stacked DIR", "convert s out --to compressed-tensors --max-shard-size 20000", stacked,
             folder="out"),
        case("convert GGUF", "convert m.gguf out --to compressed-tensors", gguf, folder="out"),
        case("encode", "encode numbers --recipe ocp --packed out.codes --scale out.scales", numbers,
             files=["out.codes", "out.scales"]),
        case("decode", "decode out.numbers --packed codes --scale scales", numbers, files=["out.numbers"]),
        case("report", "report m out", quantized, files=["out", "out/*.csv"]),
        case("report --html", "report m out --html page.html", quantized, files=["out", "out/*.csv", "page.html"]),
        case("card", "card m --base-model a/b", quantized, files=["m/README.md"]),
        case("index", "index in", without_index, files=["in/model.safetensors.index.json"]),
        case("index --overwrite", "index in --overwrite", with_other_index, files=["in/model.safetensors.index.json"]),
        case("verify --accept", "verify m --accept tokenizer.json", with_new_template, files=["m/mxfp4_report.json"]),
        case("compare --details", "compare in m --ids ids --details out.json --threads 1", two_results,
             files=["out.json"]),
    ]
    return cases


def replacing_cases():
    """The same over a former output of other bytes, and with files of the user's in an output folder."""
    def case(name, line, prepare, former, folder=None, files=(), others=False):
        def before(must, root):
            prepare(must, root)
            must(*former.split())
            if others:
                for name in ["adapter.safetensors", "mine/config.json"]:
                    write(root, f"{folder}/{name}", f"mine: {name}\n")
                os.symlink("../notes/out", os.path.join(root, folder, "notes"))
        kept = [f"{folder}/{name}" for name in ["adapter.safetensors", "mine*", "notes"]] if others else []
        return Case(name + " --overwrite", (line + " --overwrite").split(), before, folder, list(files), kept)

    encode = "encode numbers --packed out.codes --scale out.scales --recipe "
    return [
        case("quantize FILE", "quantize in.safetensors out.safetensors --threads 1", single,
             "quantize in.safetensors out.safetensors --include experts.0", files=["out.safetensors"]),
        case("dequantize FILE", "dequantize m.safetensors out.safetensors", single,
             "dequantize m.safetensors out.safetensors --to f32", files=["out.safetensors"]),
        case("dequantize DIR", "dequantize m out", two_results, "dequantize m0 out --max-shard-size 20000",
             folder="out"),
        case("dequantize DIR, others' files", "dequantize m out", two_results, "dequantize m0 out", folder="out",
             others=True),
        case("convert DIR --to stacked", "convert m out --to stacked --max-shard-size 20000", two_results,
             "convert m0 out --to gpt-oss", folder="out"),
        case("convert DIR, others' files", "convert m out --to stacked", two_results,
             "convert m0 out --to compressed-tensors --max-shard-size 20000", folder="out", others=True),
        case("convert DIR --to gguf", "convert m out.gguf --to gguf", two_results, "convert m0 out.gguf --to gguf",
             files=["out.gguf"]),
        case("encode", encode + "ocp", numbers, encode + "torchao_rceil", files=["out.codes", "out.scales"]),
        case("decode", "decode out.numbers --packed codes --scale scales", numbers,
             "decode out.numbers --packed codes --scale scales --to f16", files=["out.numbers"]),
        case("report", "report m out", two_results, "report m0 out", files=["out", "out/*.csv"]),
        case("report --html", "report m --html page.html", two_results, "report m0 --html page.html",
             files=["page.html"]),
        case("card", "card m --base-model a/b", two_results, "card m --base-model c/d", files=["m/README.md"]),
        case("compare --details", "compare in m --ids ids --details out.json --threads 1", two_results,
             "compare in m0 --ids ids --details out.json --threads 1", files=["out.json"]),
    ]
