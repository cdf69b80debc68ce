# tests/interop/common.py -- what the checks share: the programs run, files opened with the ecosystem's own libraries.
# SPDX-License-Identifier: Apache-2.0
import importlib.metadata
import json
import pathlib
import subprocess

import ml_dtypes
import numpy as np
from safetensors import safe_open


def run(*arguments):
    subprocess.run([str(a) for a in arguments], check=True, stdout=subprocess.DEVNULL)


def package_versions(*packages):
    return {package: importlib.metadata.version(package) for package in packages}


def print_versions(*packages):
    for package, version in package_versions(*packages).items():
        print(f"{package} {version}")


def add_results(file, check, versions, families):
    """What a check saw of each family, beside what others saw: {check: {"versions": ..., "families": {name: steps}}}."""
    results = json.loads(file.read_text()) if file.exists() else {}
    known = results.get(check, {})
    if known.get("versions") == versions:
        families = {**known["families"], **families}
    results[check] = dict(versions=versions, families=dict(sorted(families.items())))
    file.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")


def require(holds, what):
    if not holds:
        raise SystemExit(f"interop: {what}")


def files_of(path):
    path = pathlib.Path(path)
    if path.is_file():
        return [path]
    index = path / "model.safetensors.index.json"
    if not index.exists():
        return [path / "model.safetensors"]
    names = set(json.loads(index.read_text())["weight_map"].values())
    return [path / name for name in sorted(names)]


NUMPY_OF = {"U8": np.uint8, "I8": np.int8, "BF16": ml_dtypes.bfloat16, "F16": np.float16, "F32": np.float32,
            "F8_E4M3": ml_dtypes.float8_e4m3fn, "I64": np.int64}


def load(path):
    """All tensors of a checkpoint by name: opened by safetensors, and once more by the format's own description."""
    tensors = {}
    for file in files_of(path):
        raw = file.read_bytes()
        size = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:8 + size])
        with safe_open(file, "np") as opened:
            require(set(opened.keys()) == set(header) - {"__metadata__"}, f"{file}: other names than its header")
            for name in opened.keys():
                entry = header[name]
                begin, end = (8 + size + n for n in entry["data_offsets"])
                tensor = np.frombuffer(raw[begin:end], NUMPY_OF[entry["dtype"]]).reshape(entry["shape"])
                part = opened.get_slice(name)
                require(part.get_dtype() == entry["dtype"] and list(part.get_shape()) == entry["shape"],
                        f"{file}: {name}: another dtype or shape")
                if entry["dtype"] in ("U8", "F32", "F16"):  # what safetensors gives numpy as it is
                    require(opened.get_tensor(name).tobytes() == tensor.tobytes(), f"{file}: {name}: other bytes")
                tensors[name] = tensor
    return tensors


def decode(packed, scales):
    """[.., n / 2] and [.., n / 32] as ml_dtypes has them: float32, NaN under byte 255."""
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)
    values = codes.astype(np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    factors = np.repeat(scales.view(ml_dtypes.float8_e8m0fnu).astype(np.float32), 32, axis=-1)
    with np.errstate(over="ignore", invalid="ignore"):
        return values * factors


def same_bits(a, b):
    """Equal bits, but any NaN equals any other."""
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    return a.shape == b.shape and bool(np.all((a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b))))
