#!/usr/bin/env python3
# bench/report.py -- runs the benchmark programs and writes report.json, report.md and roofline.png.
# SPDX-License-Identifier: Apache-2.0
#
#   report.py --out DIR PROGRAM...        runs them, one after the other, and reports; --filter REGEX: some rows
#   report.py --out DIR                   reports again what DIR/<program>.json hold
#   report.py --out DIR --update README   also puts the table between README's two report markers
#
# Ends with 1 if a program found a wrong result or a limit was measured badly: a kernel cannot be above it.
import argparse
import datetime
import json
import math
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TOO_GOOD = 1.02  # a ratio above this means that the limit is wrong, not that the kernel is good
BYTES = {"f32": 4, "bf16": 2, "f16": 2, "e4m3": 1}
MARKERS = ("<!-- report.py --update writes below -->", "<!-- report.py --update wrote above -->")


def run(programs, out, chosen):
    """Leaves each program's JSON in `out`; returns the programs that ended with an error."""
    if programs:
        for old in out.glob("bench_*.json"):
            old.unlink()
    git = subprocess.run(["git", "-C", str(HERE), "describe", "--always", "--dirty"], capture_output=True, text=True)
    commit = git.stdout.strip() or "unknown"
    failed = []
    for program in programs:
        print(f"running {program.name}", flush=True)
        command = [program.resolve(), f"--benchmark_filter={chosen}", f"--benchmark_context=commit={commit}"]
        command += [f"--benchmark_out={out / program.name}.json", "--benchmark_out_format=json"]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            failed.append(f"{program.name} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return failed


def row_of(run):
    """kernel/key:value/... with the label `unit, limit: name` -> a row."""
    kernel, *fields = run["name"].split("/")
    field = dict(f.split(":", 1) for f in fields if ":" in f)
    unit, _, limit_name = run.get("label", "").partition(", limit: ")
    return {
        "kernel": kernel,
        "activation": field.get("activation"),
        "output": field.get("output"),
        "packed": {"packed": True, "view": False}.get(field.get("weights")),
        "shape": field.get("shape"),
        "m": int(field["m"]) if "m" in field else None,
        "residency": field.get("residency"),
        "isa": field.get("isa"),
        "threads": int(field["threads"]),
        "value": run.get("value"),
        "unit": unit,
        "limit": run.get("limit"),
        "ratio": run.get("ratio"),
        "limit_name": limit_name or None,
        "noise": run.get("noise"),
        "limit_noise": run.get("limit_noise"),
        "clock_ghz": run.get("GHz"),
        "job_seconds": run.get("job_seconds"),
    }


def load(out):
    """Rows, the machine, and the names of those that had no time because their result was wrong."""
    rows, context, wrong = [], None, []
    for path in sorted(out.glob("bench_*.json")):
        text = path.read_text()
        if not text:  # no row of this program was chosen
            continue
        data = json.loads(text)
        context = context or data["context"]
        for r in data["benchmarks"]:
            if r.get("error_occurred"):
                wrong.append(r["name"])
            else:
                rows.append(row_of(r))
    return rows, context, wrong


def key(row, *without, **other):
    """What makes a row the same as another one but for some fields."""
    names = ("kernel", "activation", "output", "packed", "shape", "m", "residency", "isa", "threads")
    return tuple(other.get(n, row[n]) for n in names if n not in without)


def derive(rows):
    """Adds what needs more than one row, or the clock."""
    by_key = {key(r): r for r in rows}
    by_size = {key(r, "shape"): r for r in rows}
    dense = {key(r, "activation", "packed", "isa"): r for r in rows if r["isa"] == "openblas"}
    for r in rows:
        if r["kernel"].startswith("quantize") and r["clock_ghz"] and r["threads"] == 1:
            r["per_cycle"] = r["value"] / BYTES[r["activation"]] / r["clock_ghz"]
        if r["threads"] == 2:
            # Hot rows give each thread its own cache full: another shape.
            single = by_key.get(key(r, threads=1)) or by_size.get(key(r, "shape", threads=1))
            if single:
                r["scaling"] = r["value"] / single["value"]
        if r["kernel"] in ("gemv", "gemm"):
            other = dense.get(key(r, "activation", "packed", "isa", kernel="s" + r["kernel"]))
            if other:  # gemv counts bytes: 17 per 32 weights against 4 a weight
                weights = (32 / 17, 1 / 4) if r["kernel"] == "gemv" else (1, 1)
                r["over_dense"] = r["value"] * weights[0] / (other["value"] * weights[1])


def matches(row, where):
    return all(row[k] in v if isinstance(v, list) else row[k] == v for k, v in where.items())


def judge(rows, isa):
    """Gives each row its goals: [{metric, reached, must, aim}]."""
    goals = json.loads((HERE / "goals.json").read_text())["goals"]
    for r in rows:
        r["goals"] = [
            {"metric": g["metric"], "reached": r[g["metric"]], "must": g["must"], "aim": g["aim"]}
            for g in goals
            if r["isa"] == isa and r.get(g["metric"]) is not None and matches(r, g["where"])
        ]


def name(row):
    form = {True: "packed", False: "view", None: None}[row["packed"]]
    m = f"M = {row['m']}" if row["m"] else None
    parts = (row["kernel"], row["activation"], form, row["output"], row["shape"], m, row["residency"], row["isa"])
    return ", ".join(p for p in parts if p) + f", {row['threads']} thread" + "s" * (row["threads"] > 1)


def noise(row):
    both = (100 * row["noise"], 100 * (row["limit_noise"] or 0))
    return "noise {:.1f} %, the limit's {:.1f} %".format(*both)


def missed(rows):
    for r in rows:
        for g in r["goals"]:
            if g["must"] is not None and g["reached"] < g["must"]:
                yield r, g


def miss(r, g):
    return f"{name(r)}: {g['metric']} {number(g['reached'])}, must {g['must']} ({noise(r)})"


def number(x):
    """Three digits."""
    return f"{x:.{max(0, 2 - math.floor(math.log10(abs(x))))}f}" if x else "0"


def duration(seconds):
    return f"{number(seconds / 60)} min" if seconds >= 60 else f"{number(seconds)} s"


def cpu():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown CPU"
    field = dict((x.strip() for x in line.split(":", 1)) for line in lines if ":" in line)
    return f"{field.get('model name', 'CPU')} (family {field.get('cpu family')}, model {field.get('model')})"


def markdown(rows, context):
    """One table a kernel, and the rows that miss what they must reach."""
    lines = [
        f"{context['date'][:10]}: {cpu()}, {context['num_cpus']} CPUs, ISA {context['isa']}, "
        f"load {context['load_avg'][0]:.1f} at the start; {context['compiler']}, -O3 -march=native; "
        f"commit {context['commit']}. `cmake --workflow --preset bench`: medians of interleaved rounds.",
        "",
    ]
    limits = [r for r in rows if r["limit"] is None]
    if limits:
        lines += ["| the machine | output | where | ISA | threads | | noise |", "|---|---|---|---|---:|---:|---:|"]
        for r in limits:
            lines.append(
                f"| {r['kernel']} | {r['output'] or ''} | {r['residency'] or ''} | {r['isa'] or ''} | {r['threads']} "
                f"| {number(r['value'])} {r['unit'].split(',')[0]} | {100 * r['noise']:.1f} % |"
            )
        lines.append("")
    kernels = list(dict.fromkeys(r["kernel"] for r in rows if r["limit"] is not None))
    for kernel in kernels:
        lines += [
            f"| {kernel} | shape | M | where | ISA | threads | value | limit | ratio | noise | goals |",
            "|---|---|---:|---|---|---:|---:|---:|---:|---:|---|",
        ]
        for r in (r for r in rows if r["kernel"] == kernel and r["limit"] is not None):
            what = ", ".join(x for x in (r["activation"], {True: "packed", False: "view"}.get(r["packed"])) if x)
            if r["output"] not in (None, "mxfp4") and kernel == "dequantize":
                what = f"to {r['output']}"
            job = f", 215 GB of FP8 in {duration(r['job_seconds'])}" if r["job_seconds"] else ""
            goals = "; ".join(
                f"{g['metric']} {number(g['reached'])}"
                + (f" (must {g['must']}{'' if g['reached'] >= g['must'] else ': MISSED'})" if g["must"] else "")
                + (f" (aim {g['aim']})" if g["aim"] else "")
                for g in r["goals"]
            )
            lines.append(
                f"| {what} | {r['shape']} | {r['m'] or ''} | {r['residency']} | {r['isa']} | {r['threads']} "
                f"| {number(r['value'])} {r['unit']}{job} | {number(r['limit'])} | {r['ratio']:.2f} "
                f"| {100 * r['noise']:.1f} % | {goals} |"
            )
        lines.append("")
    misses = [f"- {miss(r, g)}" for r, g in missed(rows)]
    lines += ["Below what they must reach:", ""] + (misses or ["- none"]) + [""]
    return "\n".join(lines)


def roofline(rows, isa, path):
    """Operations a second over operations per byte of weights, one thread, and the machine's roofs."""
    roofs = [r for r in rows if r["limit"] is None and r["threads"] == 1]
    if not roofs:
        print("no roofline.png: bench_limits was not among the programs")
        return
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        print("no roofline.png: matplotlib is missing (cmake/setup.sh --with bench)")
        return
    figure, axes = plt.subplots(figsize=(9, 6))
    x = [2.0**i for i in range(1, 11)]
    for r in roofs:
        value, place = r["value"], {"xytext": (4, 4), "textcoords": "offset points", "fontsize": 8, "color": "0.4"}
        if r["kernel"] == "read":
            axes.plot(x, [value * i for i in x], color="0.6", linewidth=1)
            at = max(x[0], 12 / value)
            axes.annotate(f"read {r['residency']}, {value:.0f} GB/s", (at, value * at), **place)
        elif r["kernel"].endswith("_peak") and r["isa"] == isa:
            axes.axhline(value, color="0.6", linewidth=1)
            axes.annotate(f"{r['kernel']}, {value:.0f} Gop/s", (x[-3], value), **place)
    series = {}
    for r in rows:
        if r["kernel"] not in ("gemv", "gemm") or r["threads"] != 1 or r["isa"] != isa:
            continue
        per_byte = 2 * (32 / 17) * r["m"]
        rate = r["value"] if r["unit"] == "Gop/s" else r["value"] * per_byte
        label = f"{r['activation']}, {'packed' if r['packed'] else 'view'}" + (", cold" * (r["residency"] == "cold"))
        series.setdefault(label, []).append((per_byte, rate))
    for label, points in sorted(series.items()):
        axes.scatter(*zip(*points), s=22, label=label)
    axes.set(xscale="log", yscale="log", xlim=(x[0], x[-1]), ylim=(10, 1000))
    axes.set(xlabel="operations per byte of weights (2 M x 32 / 17)", ylabel="10^9 operations/s")
    axes.set(title=f"mxfp4 on one core ({isa})")
    if series:
        axes.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def update(readme, table):
    text = readme.read_text()
    begin, end = (text.find(m) for m in MARKERS)
    if begin < 0 or end < begin:
        sys.exit(f"report.py: {readme} lacks the lines '{MARKERS[0]}' and '{MARKERS[1]}', expected around the table")
    readme.write_text(text[: begin + len(MARKERS[0])] + "\n\n" + table + "\n" + text[end:])


def main():
    arguments = argparse.ArgumentParser(description="Runs the benchmark programs and reports.")
    arguments.add_argument("--out", type=pathlib.Path, required=True, help="where the report goes")
    arguments.add_argument("--filter", default=".", metavar="REGEX", help="some rows, as threads:1 on a busy machine")
    arguments.add_argument("--update", type=pathlib.Path, metavar="README", help="puts the table between its markers")
    arguments.add_argument("programs", nargs="*", type=pathlib.Path)
    args = arguments.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    started = datetime.datetime.now()
    failed = run(args.programs, args.out, args.filter)
    for program in failed:
        print(f"FAILED: {program}")
    rows, context, wrong = load(args.out)
    if context is None:
        sys.exit(f"report.py: no rows in {args.out}/bench_*.json: name the programs to run")
    derive(rows)
    judge(rows, context["isa"])
    table = markdown(rows, context)
    (args.out / "report.json").write_text(json.dumps({"context": context, "rows": rows}, indent=1) + "\n")
    (args.out / "report.md").write_text(table)
    roofline(rows, context["isa"], args.out / "roofline.png")
    if args.update:
        update(args.update, table)

    for r, g in missed(rows):
        print(f"below must: {miss(r, g)}")
    bad = [r for r in rows if (r["ratio"] or 0) > TOO_GOOD]
    for r in bad:
        print(f"LIMIT MEASURED BADLY: {name(r)}: ratio {r['ratio']:.3f} is above {TOO_GOOD} ({noise(r)})")
    for r in wrong:
        print(f"WRONG RESULT: {r}")
    typical = statistics.median(r["noise"] for r in rows) if rows else 0
    seconds = (datetime.datetime.now() - started).total_seconds()
    print(f"{len(rows)} rows, median noise {100 * typical:.1f} %, {seconds:.0f} s; {args.out / 'report.md'}")
    return 1 if bad or wrong or failed else 0


if __name__ == "__main__":
    sys.exit(main())
