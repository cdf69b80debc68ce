#!/usr/bin/env python3
# bench/commands.py -- verify, convert and dequantize of a whole checkpoint: time beside a plain copy, and memory.
# SPDX-License-Identifier: Apache-2.0
"""commands.py MXFP4 MXFP4_GENERATE [--experts N] [--folder DIR] [--repeat N]

Makes a MiniMax-M2 of two layers (2 GB of FP8 at 160 experts, 1 GB as MXFP4), quantises it, and runs each command on the
result. Beside each time stands that of a loop that reads as many bytes as the command reads and writes as many as it
writes, 4 MiB at a time, files in the same folder; both are medians of N runs that take turns, with the input in the
page cache. Seconds are those of the CPU, of all threads and the kernel, which other programs on the machine hardly
change; those of the clock are beside them, and mean something where nothing else runs. Peak memory is the largest
resident set of the process; the headers of the checkpoint are in it, and are printed beside it. Python's standard
library is all it needs.
"""
import argparse
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

SLAB = 4 << 20


def files_of(path):
    path = pathlib.Path(path)
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def bytes_of(*paths):
    return sum(file.stat().st_size for path in paths for file in files_of(path))


def copy_seconds(inputs, written, scratch):
    """Reads the inputs to the end and writes `written` bytes, in turns. @return seconds by the clock, of the CPU."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    total, done_read, done_written = bytes_of(*inputs), 0, 0
    buffer = bytearray(SLAB)
    with open(scratch, "wb", buffering=0) as out:
        for file in (file for path in inputs for file in files_of(path)):
            with open(file, "rb", buffering=0) as source:
                while (count := source.readinto(buffer)) > 0:
                    done_read += count
                    while done_written * total < written * done_read:
                        done_written += out.write(memoryview(buffer)[:min(SLAB, written - done_written)])
        os.fsync(out.fileno())
    seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
    os.remove(scratch)
    return seconds


def run(arguments):
    """@return seconds by the clock, of the CPU, peak resident set in MiB."""
    begin = time.perf_counter()
    process = subprocess.Popen([str(a) for a in arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"commands: {' '.join(map(str, arguments))}: exit code {process.returncode}")
    return time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif path and os.path.exists(path):
        os.remove(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mxfp4")
    parser.add_argument("generate")
    parser.add_argument("--experts", type=int, default=160)
    parser.add_argument("--folder", help="where the files go; without it, the folder for temporary files")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mxfp4-bench-", dir=options.folder) as folder:
        fp8, packed, out, scratch = (os.path.join(folder, name) for name in ("fp8", "packed", "out", "scratch"))
        run([options.generate, "--checkpoint", "--layers", 2, "--experts", options.experts, "--hidden", 2048,
             "--intermediate", 1024, "--vocabulary", 8192, "--heads", 16, "--key-value-heads", 4, "--head-dim", 128, fp8])
        run([options.mxfp4, "quantize", fp8, packed])
        headers = 0
        for path in (fp8, packed):
            for file in files_of(path):
                if file.suffix == ".safetensors":
                    with open(file, "rb") as opened:
                        headers += int.from_bytes(opened.read(8), "little")
        rows = [("verify", ["verify", packed], [packed], None),
                ("verify --against", ["verify", packed, "--against", fp8], [packed, fp8], None),
                ("convert --to stacked", ["convert", packed, out, "--to", "stacked"], [packed], out),
                ("convert --to gguf", ["convert", packed, out + ".gguf", "--to", "gguf"], [packed], out + ".gguf"),
                ("convert --to block-fp8", ["convert", packed, out, "--to", "block-fp8"], [packed], out),
                ("dequantize", ["dequantize", packed, out], [packed], out),
                ("dequantize, of FP8", ["dequantize", fp8, out], [fp8], out)]
        print(f"FP8 {bytes_of(fp8) / 1e9:.2f} GB, MXFP4 {bytes_of(packed) / 1e9:.2f} GB, headers {headers / 2**20:.1f} MiB")
        print("| command | read | written | CPU s | of a copy | ratio | clock s | of a copy | ratio | peak MiB |\n"
              "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
        for name, arguments, inputs, output in rows:
            runs, copies, peak, written = [], [], 0.0, 0
            for _ in range(options.repeat):
                *seconds, memory = run([options.mxfp4, *arguments])
                runs.append(seconds)
                peak = max(peak, memory)
                if output:
                    written = bytes_of(output)
                    remove(output)
                copies.append(copy_seconds(inputs, written, scratch))
            (clock, cpu), (copy, copy_cpu) = (map(statistics.median, zip(*times)) for times in (runs, copies))
            print(f"| {name} | {bytes_of(*inputs) / 1e9:.2f} GB | {written / 1e9:.2f} GB | {cpu:.2f} | {copy_cpu:.2f} | "
                  f"{cpu / copy_cpu:.2f} | {clock:.1f} | {copy:.1f} | {clock / copy:.1f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
