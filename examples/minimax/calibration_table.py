#!/usr/bin/env python3
# examples/minimax/calibration_table.py -- calibrated against calibration-free, with 95 % intervals over windows.
# SPDX-License-Identifier: Apache-2.0
"""usage: calibration_table.py DETAILS.json...

Each file is what `mxfp4 compare ORIGINAL CALIBRATED --recipes compressed_tensors --details` wrote. Prints ratios of the
first target to the second. Windows are drawn with replacement, both targets' the same ones (bootstrap, percentiles 2.5
and 97.5 of 1000 draws, the seed is fixed): tokens of one window are not independent of each other. Needs numpy."""
import json
import sys

import numpy as np

DRAWS = 1000


def windows_of(details):
    """Indices of the predictions of each window; the last token of a window predicts nothing."""
    count = len(details["targets"][0]["per_token"]["kld"])
    size = details["context"] - 1
    return [np.arange(first, min(first + size, count)) for first in range(0, count, size)]


def measures(kld, nll, reference):
    return np.array([kld.mean(), np.exp(nll.mean() - reference.mean()) - 1, np.quantile(kld, 0.99), np.median(kld)])


def ratios(path):
    with open(path, encoding="utf-8") as file:
        details = json.load(file)
    columns = [[np.array(t["per_token"][key]) for key in ("kld", "nll", "original_nll")] for t in details["targets"][:2]]
    windows, random = windows_of(details), np.random.default_rng(1)

    def ratio(rows):
        calibrated, plain = (measures(*(c[rows] for c in column)) for column in columns)
        return calibrated / plain

    point = ratio(np.arange(len(columns[0][0])))
    draws = [ratio(np.concatenate([windows[i] for i in random.integers(0, len(windows), len(windows))]))
             for _ in range(DRAWS)]
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return details, len(windows), point, low, high


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print("| windows | activations | KLD mean | perplexity degradation | KLD P99 | KLD median |\n|---|---|---|---|---|---|")
    for path in sys.argv[1:]:
        details, count, point, low, high = ratios(path)
        cells = [f"{p:.3f} ({a:.3f} .. {b:.3f})" for p, a, b in zip(point, low, high)]
        print(f"| {count} of {details['context']} | {details['activations']} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
