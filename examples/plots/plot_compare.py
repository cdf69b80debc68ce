#!/usr/bin/env python3
# examples/plots/plot_compare.py -- draws what `mxfp4 compare --details` wrote: KLD, where it arises, errors by expert.
# SPDX-License-Identifier: Apache-2.0
"""usage: plot_compare.py DETAILS.json [PNG_DIR]

Writes kld_histogram.png (all targets), kld_entropy.png (against the original's entropy) and expert_error_map.png, the
last two for the first target. Needs matplotlib. KLD is KL(original || quantised) in nats."""
import json
import math
import os
import sys

from figures import plt, save
from matplotlib.ticker import MaxNLocator

SMALLEST = 1e-9  # nats: what is below, and 0, is drawn here


def read_details(path):
    """The JSON; an error names the file and what it lacks."""
    try:
        with open(path, encoding="utf-8") as file:
            details = json.load(file)
        if not details["targets"]:
            raise ValueError("has no targets")
        for target in details["targets"]:
            tokens = target["per_token"]
            if len(tokens["kld"]) != len(tokens["original_entropy"]):
                raise ValueError("has as many klds as entropies in no target " + target["name"])
            if any(kld is None for kld in tokens["kld"]):
                raise ValueError("has a KLD that is no number in target " + target["name"])
            for expert in target["experts"]:
                expert["layer"], expert["expert"], expert["relative_error"]
    except KeyError as error:
        sys.exit(f"plot_compare.py: {path}: has no {error}: write it with mxfp4 compare --details")
    except (OSError, ValueError, TypeError) as error:
        sys.exit(f"plot_compare.py: {path}: {error}: write it with mxfp4 compare --details")
    return details


def name_of(target):
    return os.path.basename(target["name"].rstrip("/")) or target["name"]


def drawn(klds):
    return [max(kld, SMALLEST) for kld in klds]


def plot_histogram(targets, directory):
    klds = [kld for t in targets for kld in drawn(t["per_token"]["kld"])]
    bottom = math.floor(math.log10(min(klds)))
    top = max(math.ceil(math.log10(max(klds))), bottom + 1)
    bins = [10 ** (bottom + i * (top - bottom) / 100) for i in range(101)]
    figure, axes = plt.subplots(figsize=(8, 5))
    for target in targets:
        axes.hist(drawn(target["per_token"]["kld"]), bins=bins, histtype="step",
                  label=f"{name_of(target)}: mean {target['kld']['mean']:.4f}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("KLD of a token, nats")
    axes.set_ylabel("tokens")
    axes.set_title("How far the predictions are from the original's")
    axes.legend(loc="upper left")
    save(figure, directory, "kld_histogram.png")


def plot_entropy(target, directory):
    tokens = target["per_token"]
    figure, axes = plt.subplots(figsize=(8, 5))
    image = axes.hexbin(tokens["original_entropy"], drawn(tokens["kld"]), yscale="log", gridsize=60, bins="log",
                        mincnt=1, cmap="viridis")
    axes.set_xlabel("entropy of the original's prediction, nats")
    axes.set_ylabel("KLD of a token, nats")
    axes.set_title(f"Where it differs: {name_of(target)}")
    figure.colorbar(image, ax=axes, label="tokens")
    save(figure, directory, "kld_entropy.png")


def plot_experts(target, directory):
    experts = target["experts"]
    layers = 1 + max(e["layer"] for e in experts)
    count = 1 + max(e["expert"] for e in experts)
    error = [[math.nan] * count for _ in range(layers)]
    for e in experts:
        if e["relative_error"] is not None:
            error[e["layer"]][e["expert"]] = e["relative_error"]
    figure, axes = plt.subplots(figsize=(12, 6))
    image = axes.imshow(error, aspect="auto", interpolation="nearest", cmap="viridis")
    axes.set_xlabel("expert")
    axes.set_ylabel("layer")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(f"Relative error of the weights: {name_of(target)}")
    figure.colorbar(image, ax=axes, label="|W - Q| / |W|")
    save(figure, directory, "expert_error_map.png")


def main(arguments):
    if len(arguments) not in (2, 3):
        sys.exit(__doc__)
    targets = read_details(arguments[1])["targets"]
    directory = arguments[2] if len(arguments) == 3 else os.path.dirname(arguments[1]) or "."
    os.makedirs(directory, exist_ok=True)
    plot_histogram(targets, directory)
    plot_entropy(targets[0], directory)
    plot_experts(targets[0], directory)


if __name__ == "__main__":
    main(sys.argv)
