# examples/plots/figures.py -- what the plots share.
# SPDX-License-Identifier: Apache-2.0
import os

import matplotlib

matplotlib.use("Agg")  # no display
import matplotlib.pyplot as plt


def save(figure, directory, name):
    """Complete or absent under its name."""
    path = os.path.join(directory, name)
    figure.savefig(path + ".tmp", format="png", dpi=120, bbox_inches="tight")
    os.replace(path + ".tmp", path)
    plt.close(figure)
    print(path)
