#!/usr/bin/env python3
# bench/peers/packages.py -- this library beside Python packages: they take turns in one process, on one thread.
# SPDX-License-Identifier: Apache-2.0
#
#   packages.py openvino [--shape 4096x4096]... [--tokens 1]... [--rounds 15]
#   packages.py moe      [--experts 256 --top-k 8 --hidden 2048 --inner 768] [--tokens 8]... [--rounds 15]
#
# Installs the packages of PACKAGES, at these versions and without what they depend on, into a virtual environment of
# its own (--environment keeps it), compiles our side as compare.py does, and runs itself there. xiaotu-moe is there for
# Python 3.12 alone, and it wants libcudart.so.13, though nothing runs on a GPU.
#
# Each result is compared with the product in double first; one that is off by more than 5 % has no time, and the exit
# code is 1. A sample's time is the clock's, or the processor time of the process where that is less: a peer's own
# thread may wait for its turn, and may also spin. Ratios are round by round; the interval is that of the median.
import argparse
import ctypes
import datetime
import glob
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from compare import compile_peer

try:
    import numpy as np
except ImportError:  # outside of the virtual environment
    np = None

PACKAGES = {"openvino": ["numpy==2.3.5", "openvino==2026.4.1", "openvino-telemetry==2025.2.0"],
            "moe": ["numpy==2.3.5", "kt-kernel==0.7.2", "xiaotu-moe==0.12"]}
HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent


# ---- outside of the virtual environment ----

def start(options):
    with tempfile.TemporaryDirectory(prefix="packages.") as folder:
        environment = pathlib.Path(options.environment or pathlib.Path(folder) / "venv")
        python = environment / "bin/python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--disable-pip-version-check",
                        *PACKAGES[options.what]], check=True)
        shared = pathlib.Path(folder) / "ours.so"
        compile_peer(SOURCE / "include", "mxfp4", "native", shared,
                     "mxfp4_peer.cpp" if options.what == "openvino" else "moe_peer.cpp")
        model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
        print(f"{model.group(1) if model else 'unknown CPU'}, {', '.join(PACKAGES[options.what][1:])}, "
              f"{datetime.date.today()}, load {os.getloadavg()[0]:.1f}", flush=True)
        sys.exit(subprocess.run([python, __file__, *sys.argv[1:], "--ours", shared],
                                env={**os.environ, "XIAOTU_MOE_THREADS": "1", "OMP_NUM_THREADS": "1"}).returncode)


# ---- in it ----

def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


def relative(y, exact):
    return float(np.linalg.norm(y - exact) / np.linalg.norm(exact))


def decoded(codes, scales):
    values = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    values = np.concatenate([values, -values])
    w = np.empty((codes.shape[0], 2 * codes.shape[1]))
    w[:, 0::2], w[:, 1::2] = values[codes & 15], values[codes >> 4]
    return w * np.repeat(2.0 ** (scales.astype(float) - 127), 32, axis=1)


def take_turns(title, rows, rounds, base):
    """rows: (name, call, error); speeds are relative to that of `base`."""
    wrong = [name for name, _, error in rows if not error <= 0.05]
    calls, seconds = {}, {name: [] for name, _, _ in rows}
    for name, call, _ in rows:
        call()
        begin = time.perf_counter()
        call()
        calls[name] = max(1, int(0.02 / (time.perf_counter() - begin)))
    for _ in range(rounds):
        for name, call, _ in rows:
            call()
            clock, processor = time.perf_counter(), time.process_time()
            for _ in range(calls[name]):
                call()
            seconds[name].append(min(time.perf_counter() - clock, time.process_time() - processor) / calls[name])
    low = 0  # order statistics that are a 95 % interval of the median
    tail = term = 0.5 ** rounds
    while low + 1 < rounds // 2:
        term *= (rounds - low) / (low + 1)
        if 2 * (tail + term) > 0.05:
            break
        tail, low = tail + term, low + 1
    print(f"\n| {title} | us | speed, 95 % interval | error |\n|---|---:|---:|---:|")
    for name, _, error in rows:
        if name in wrong:
            print(f"| {name} | not timed | | {error:.1e} |")
            continue
        ratio = sorted(b / s for b, s in zip(seconds[base], seconds[name]))
        print(f"| {name} | {1e6 * np.median(seconds[name]):.0f} | {ratio[rounds // 2]:.2f} "
              f"({ratio[low]:.2f} .. {ratio[rounds - 1 - low]:.2f}) | {error:.1e} |", flush=True)
    return not wrong


def load_ours(file, types):
    library = ctypes.CDLL(file)
    for name, result, arguments in types:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def openvino_rows(n, k, m, random, ours):
    import openvino as ov
    from openvino import opset14 as op
    codes = random.integers(0, 256, (n, k // 2), dtype=np.uint8)
    scales = random.integers(118, 126, (n, k // 32), dtype=np.uint8)
    x = random.standard_normal((m, k)).astype(np.float32)
    exact = x.astype(float) @ decoded(codes, scales).T
    weights = op.convert(op.constant(ov.Tensor(codes, ov.Shape([n, k // 32, 32]), ov.Type.f4e2m1)), "f32")
    factors = op.convert(op.constant(ov.Tensor(scales, ov.Shape([n, k // 32, 1]), ov.Type.f8e8m0)), "f32")
    matrix = op.reshape(op.multiply(weights, factors), op.constant(np.array([n, k], dtype=np.int64)), False)
    token = op.parameter([m, k], ov.Type.f32)
    model = ov.Model([op.matmul(token, matrix, False, True)], [token])
    request = ov.Core().compile_model(model, "CPU", {
        "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY"}).create_infer_request()
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))
    request.infer()
    rows = [("OpenVINO", request.infer, relative(request.get_output_tensor().data, exact))]
    made = ours.peer_create(n, k, pointer(codes), pointer(scales))
    y = np.empty((m, n), dtype=np.float32)
    for product in ("f32_packed", "f32_view", "int8_residual2_packed", "int8_residual3_packed"):
        def call(product=product.encode()):
            if ours.peer_prepare(made, product, m, pointer(x)) != 0 or ours.peer_multiply(made, pointer(y)) != 0:
                raise RuntimeError(f"{product} failed")
        call()
        rows.append((product, call, relative(y, exact)))
    return rows, (codes, scales, x, y, request)


def run_openvino(options):
    ours = load_ours(options.ours, [
        ("peer_create", ctypes.c_void_p, [ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]),
        ("peer_prepare", ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int64, ctypes.c_void_p]),
        ("peer_multiply", ctypes.c_int, [ctypes.c_void_p, ctypes.c_void_p])])
    right = True
    for shape in options.shape or ["4096x4096"]:
        n, k = map(int, shape.split("x"))
        for m in options.tokens or [1, 2, 4, 8, 32, 128]:
            rows, _alive = openvino_rows(n, k, m, np.random.default_rng(1), ours)
            right &= take_turns(f"M = {m}, {n} x {k}", rows, options.rounds, "OpenVINO")
    return right


def extension(package, name, pattern):
    """An extension module alone: what its package imports besides is not needed here."""
    folder = importlib.util.find_spec(package).submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location(name, glob.glob(f"{folder}/{pattern}")[0])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Layer:
    """A layer's weights, and its results in double."""

    def __init__(self, options, random):
        self.experts, self.top_k, self.hidden, self.inner = (options.experts, options.top_k, options.hidden,
                                                             options.inner)
        shapes = [(self.inner, self.hidden), (self.inner, self.hidden), (self.hidden, self.inner)]
        self.codes = [random.integers(0, 256, (self.experts, n, k // 2), dtype=np.uint8) for n, k in shapes]
        self.scales = [random.integers(118, 126, (self.experts, n, k // 32), dtype=np.uint8) for n, k in shapes]

    def exact(self, x, indices, weights):
        y = np.zeros((len(x), self.hidden))
        for e in np.unique(indices):
            gate, up, down = (decoded(c[e], s[e]) for c, s in zip(self.codes, self.scales))
            for t, slot in zip(*np.nonzero(indices == e)):
                g = gate @ x[t]
                y[t] += weights[t, slot] * (down @ (g / (1 + np.exp(-g)) * (up @ x[t])))
        return y


def kt_kernel(layer, most_tokens):
    kt = extension("kt_kernel", "kt_kernel_ext", "_kt_kernel_ext_avx2.*.so")
    pool = kt.WorkerPoolConfig()
    pool.subpool_count, pool.subpool_numa_map, pool.subpool_thread_count = 1, [0], [1]
    worker = kt.CPUInfer(pool)
    mask = np.zeros(layer.experts, dtype=bool)
    config = kt.moe.MOEConfig(layer.experts, layer.top_k, layer.hidden, layer.inner, mask.ctypes.data)
    config.layer_idx, config.pool, config.max_len = 0, worker.backend_, most_tokens
    scales = [s.astype(np.uint16) << 7 for s in layer.scales]  # bf16
    for name, codes, factors in zip(("gate", "up", "down"), layer.codes, scales):
        setattr(config, f"{name}_projs", [[c.ctypes.data for c in codes]])
        setattr(config, f"{name}_scales", [[s.ctypes.data for s in factors]])
    config.quant_config.bits, config.quant_config.group_size, config.quant_config.zero_point = 4, 32, False
    moe = kt.moe.AVX2MXFP4_MOE(config)
    order = np.arange(layer.experts, dtype=np.int64)
    worker.submit(moe.load_weights_task(order.ctypes.data))
    worker.sync()
    alive = (worker, mask, config, scales, order)

    def make(x, indices, weights):
        count, wide = np.array([len(x)], dtype=np.int32), indices.astype(np.int64)
        y = np.zeros(x.shape, dtype=np.uint16)

        def call(_alive=alive):
            worker.submit(moe.forward_task(count.ctypes.data, layer.top_k, wide.ctypes.data, weights.ctypes.data,
                                           x.ctypes.data, y.ctypes.data, False))
            worker.sync()
        call()
        return call, (y.astype(np.uint32) << 16).view(np.float32)
    return make


def xiaotu(layer):
    xt = extension("xiaotu_moe", "_xiaotu_moe_C_avx2", "build/_xiaotu_moe_C_avx2.*.so")
    config = xt.MOEConfigV2()
    config.num_processes, config.process_id, config.gpu_id, config.has_gate_proj = 1, 0, 0, True
    config.expert_num, config.top_k, config.hidden_size = layer.experts, layer.top_k, layer.hidden
    config.intermediate_size, config.max_batch_size, config.max_num_seqs = layer.inner, 256, 256
    config.stride, config.group_min_len, config.group_max_len = 32, 10, 4096 + 128
    config.groupN, config.groupK, config.activation_type = 1, 32, 0
    both = [np.concatenate(pair[:2], axis=1) for pair in (layer.codes, layer.scales)]
    engine = xt.MOE_MXFP4(config, both[0], layer.codes[2], both[1], layer.scales[2], 0, 0)

    def make(x, indices, weights):
        y = np.zeros(x.shape, dtype=np.float32)

        def call(_alive=both):
            engine.cpu_prefill(len(x), layer.top_k, indices, weights, x, y)
        call()
        return call, y
    return make


def our_moe(file, layer):
    ours = load_ours(file, [
        ("moe_create", ctypes.c_void_p, [ctypes.c_int64] * 3 + [ctypes.c_void_p] * 2),
        ("moe_prepare", ctypes.c_int, [ctypes.c_void_p] + [ctypes.c_int64] * 2),
        ("moe_multiply", ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p] + [ctypes.c_void_p] * 4)])
    made = ours.moe_create(layer.experts, layer.hidden, layer.inner,
                           *((ctypes.c_void_p * 3)(*(a.ctypes.data for a in arrays)) for arrays in
                             (layer.codes, layer.scales)))

    def make(product, x, indices, weights):
        y = np.zeros(x.shape, dtype=np.float32)

        def call(name=product.encode()):
            if ours.moe_multiply(made, name, pointer(x), pointer(indices), pointer(weights), pointer(y)) != 0:
                raise RuntimeError(f"{product} failed")
        if ours.moe_prepare(made, len(x), layer.top_k) != 0:
            raise RuntimeError("no workspace")
        call()
        return call, y
    return make


def run_moe(options):
    random = np.random.default_rng(1)
    layer = Layer(options, random)
    tokens = options.tokens or [8]
    ours, kt, xt = our_moe(options.ours, layer), kt_kernel(layer, max(tokens)), xiaotu(layer)
    right = True
    for m in tokens:
        bits = (random.standard_normal((m, layer.hidden)) * 0.1).astype(np.float32).view(np.uint32)
        x = (bits + 0x8000 >> 16).astype(np.uint16)
        indices = np.stack([random.permutation(layer.experts)[:layer.top_k] for _ in range(m)]).astype(np.int32)
        weights = random.random((m, layer.top_k), dtype=np.float32)
        exact = layer.exact((x.astype(np.uint32) << 16).view(np.float32).astype(float), indices, weights)
        rows = []
        for name, make in (("kt-kernel", kt), ("xiaotu-moe", xt)):
            call, y = make(x, indices, weights)
            rows.append((name, call, relative(y, exact)))
        for product in ("bf16_packed", "bf16_view", "int8_residual2_packed", "int8_packed"):
            call, y = ours(product, x, indices, weights)
            rows.append((product, call, relative(y, exact)))
        right &= take_turns(f"moe, {m} tokens, {layer.experts} experts of which {layer.top_k}, H = {layer.hidden}, "
                            f"I = {layer.inner}", rows, options.rounds, "xiaotu-moe")
    sys.stdout.flush()
    os._exit(0 if right else 1)  # the peers' threads do not always end


def main():
    parser = argparse.ArgumentParser(description="Products of this library beside those of Python packages.")
    parser.add_argument("what", choices=sorted(PACKAGES))
    parser.add_argument("--shape", action="append", help="NxK, K a multiple of 32")
    parser.add_argument("--tokens", action="append", type=int)
    parser.add_argument("--rounds", type=int, default=15)
    for option, value in (("experts", 256), ("top-k", 8), ("hidden", 2048), ("inner", 768)):
        parser.add_argument(f"--{option}", type=int, default=value)
    parser.add_argument("--environment", help="a virtual environment to be made, or used again")
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rounds < 9:
        sys.exit(f"--rounds is {options.rounds}, expected 9 or more")
    if options.ours is None:
        start(options)
    sys.exit(0 if {"openvino": run_openvino, "moe": run_moe}[options.what](options) else 1)


if __name__ == "__main__":
    main()
