#!/usr/bin/env python3
# examples/plots/plot_report.py -- draws what `mxfp4 report` wrote: errors by expert, their distribution, scales.
# SPDX-License-Identifier: Apache-2.0
"""usage: plot_report.py CSV_DIR [PNG_DIR]

Reads experts.csv, matrices.csv and scales.csv; writes expert_error.png (heat map), error_distribution.png and
scale_exponents.png. Needs matplotlib."""
import csv
import os
import sys

from figures import plt, save


def read_csv(path, columns):
    """Rows as dictionaries; an error names the file and the column that is missing."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [c for c in columns if c not in (reader.fieldnames or [])]
            if missing:
                raise ValueError("has no column " + ", ".join(missing))
            rows = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        sys.exit(f"plot_report.py: {path}: {error}: write it with mxfp4 report")
    return rows


def plot_experts(rows, directory):
    experts = [r for r in rows if int(r["layer"]) >= 0 and int(r["expert"]) >= 0]
    if not experts:
        print("no experts: expert_error.png is left out")
        return
    layers = 1 + max(int(r["layer"]) for r in experts)
    count = 1 + max(int(r["expert"]) for r in experts)
    error = [[float("nan")] * count for _ in range(layers)]
    for r in experts:
        error[int(r["layer"])][int(r["expert"])] = float(r["relative_error"])
    figure, axes = plt.subplots(figsize=(12, 6))
    image = axes.imshow(error, aspect="auto", interpolation="nearest", cmap="viridis")
    axes.set_xlabel("expert")
    axes.set_ylabel("layer")
    axes.set_title("Relative error of the weights")
    figure.colorbar(image, ax=axes, label="|W - Q| / |W|")
    save(figure, directory, "expert_error.png")


def plot_distribution(rows, directory):
    by_part = {}
    for r in rows:
        by_part.setdefault(r["part"], []).append(float(r["relative_error"]))
    figure, axes = plt.subplots(figsize=(8, 5))
    for part, errors in sorted(by_part.items()):
        axes.hist(errors, bins="auto", histtype="step", label=f"{part} ({len(errors)})")
    axes.set_xlabel("|W - Q| / |W|")
    axes.set_ylabel("matrices")
    axes.set_title("Relative error of the matrices")
    if by_part:
        axes.legend()
    save(figure, directory, "error_distribution.png")


def plot_scales(rows, directory):
    finite = [r for r in rows if r["exponent"] != "nan"]
    figure, axes = plt.subplots(figsize=(8, 5))
    axes.bar([int(r["exponent"]) for r in finite], [int(r["blocks"]) for r in finite], width=0.9)
    if finite:
        axes.set_yscale("log")
    axes.set_xlabel("exponent of the scale")
    axes.set_ylabel("blocks of 32 weights")
    axes.set_title("Scales")
    save(figure, directory, "scale_exponents.png")


def main(arguments):
    if len(arguments) not in (2, 3):
        sys.exit(__doc__)
    source = arguments[1]
    directory = arguments[2] if len(arguments) == 3 else source
    experts = read_csv(os.path.join(source, "experts.csv"), ["layer", "expert", "relative_error"])
    matrices = read_csv(os.path.join(source, "matrices.csv"), ["part", "relative_error"])
    scales = read_csv(os.path.join(source, "scales.csv"), ["exponent", "blocks"])
    os.makedirs(directory, exist_ok=True)
    plot_experts(experts, directory)
    plot_distribution(matrices, directory)
    plot_scales(scales, directory)


if __name__ == "__main__":
    main(sys.argv)
