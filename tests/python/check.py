#!/usr/bin/env python3
# tests/python/check.py -- the installed package mxfp4: its bytes, its numbers, and what it refuses.
# SPDX-License-Identifier: Apache-2.0
"""check.py TESTS_VECTORS: run by run.py in an environment that has the wheel. Without torch its half is skipped."""
import functools
import os
import subprocess
import sys
import unittest
import unittest.mock

import ml_dtypes
import mxfp4
import numpy as np

try:
    import torch
except ImportError:
    torch = None

VECTORS = sys.argv[1]
VALUES = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def weights(rows=5, cols=96, dtype=np.float32):
    return np.random.default_rng(1).standard_normal((rows, cols)).astype(np.float32).astype(dtype)


def my_codes(w):
    """The OCP recipe by hand: the nearest of 16 values, a tie to the even code, under the power of two below amax / 4."""
    blocks = w.astype(np.float64).reshape(-1, 32)
    exponent = np.floor(np.log2(np.abs(blocks).max(axis=1))) - 2
    scaled = np.abs(blocks / np.exp2(exponent)[:, None])
    distance = np.abs(scaled[:, :, None] - VALUES[None, None, :8].astype(np.float64))
    nearest = distance.argmin(axis=2)
    following = np.minimum(nearest + 1, 7)
    tie = np.take_along_axis(distance, following[:, :, None], 2)[:, :, 0] == distance.min(axis=2)
    code = np.where(tie & (nearest % 2 == 1), following, nearest) | np.signbit(blocks) << 3
    packed = (code[:, 0::2] | code[:, 1::2] << 4).astype(np.uint8)
    return packed.reshape(w.shape[0], -1), (exponent + 127).astype(np.uint8).reshape(w.shape[0], -1)


def my_numbers(codes, scales):
    code = np.stack([codes & 15, codes >> 4], axis=-1).reshape(codes.shape[0], -1)
    return VALUES[code] * np.exp2(scales.astype(np.float32) - 127).repeat(32, axis=1)


class Numbers(unittest.TestCase):
    def test_quantize_is_the_formula(self):
        w = weights()
        w[0, :8] = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 6]   # ties
        w[0, 8:16] = -w[0, :8]
        w[0, 16:32] = 0
        codes, scales = mxfp4.quantize(w)
        mine = my_codes(w)
        np.testing.assert_array_equal(codes, mine[0])
        np.testing.assert_array_equal(scales, mine[1])
        self.assertEqual((codes.dtype, scales.dtype), (np.uint8, np.uint8))

    def test_recorded_peers(self):
        """The bytes that the peers wrote, which the C++ tests compare too: every block of ordinary numbers."""
        def bytes_of(name):
            return np.fromfile(os.path.join(VECTORS, "dev", name), np.uint8)
        for recipe, peer, dtype, file in (("compressed_tensors", "compressed_tensors_cpu_f32", np.float32, "inputs.f32"),
                                          ("torchao_rceil", "torchao_rceil_bf16", ml_dtypes.bfloat16, "inputs.bf16"),
                                          ("ggml", "ggml_ref", np.float32, "inputs.f32")):
            w = bytes_of(file).view(dtype).reshape(-1, 32)
            codes, scales = mxfp4.quantize(w, recipe)
            amax = np.abs(w.astype(np.float64)).max(axis=1)
            ordinary = (amax > 2.0**-100) & (amax < 2.0**100)
            self.assertGreater(ordinary.sum(), 1000)
            np.testing.assert_array_equal(codes[ordinary], bytes_of(peer + ".packed.u8").reshape(-1, 16)[ordinary], recipe)
            np.testing.assert_array_equal(scales[ordinary, 0], bytes_of(peer + ".scale.u8")[ordinary], recipe)

    def test_dequantize_and_gemv(self):
        w = weights()
        codes, scales = mxfp4.quantize(w, "compressed_tensors")
        numbers = my_numbers(codes, scales)
        np.testing.assert_array_equal(mxfp4.dequantize(codes, scales), numbers)
        as_bf16 = mxfp4.dequantize(codes, scales, dtype="bfloat16")
        self.assertEqual(as_bf16.dtype, ml_dtypes.bfloat16)
        np.testing.assert_array_equal(as_bf16.astype(np.float32), numbers)
        np.testing.assert_array_equal(mxfp4.dequantize(codes, scales, dtype="float16"), numbers.astype(np.float16))
        for dtype in (np.float32, np.float16, ml_dtypes.bfloat16):
            x = np.random.default_rng(2).standard_normal(w.shape[1]).astype(dtype)
            y = mxfp4.gemv(codes, scales, x)
            self.assertEqual((y.dtype, y.shape), (np.float32, (w.shape[0],)))
            expected = numbers.astype(np.float64) @ x.astype(np.float64)
            bound = np.abs(numbers).astype(np.float64) @ np.abs(x.astype(np.float64)) * 1e-6
            self.assertTrue((np.abs(y - expected) <= bound).all())

    def test_encode_and_decode_fill_up_the_last_block(self):
        x = weights(1, 64)[0, :41]
        codes, scales = mxfp4.encode(x)
        self.assertEqual((codes.shape, scales.shape), ((2, 16), (2,)))
        padded = np.zeros(64, np.float32)
        padded[:41] = x
        mine = my_codes(padded.reshape(2, 32))
        np.testing.assert_array_equal(codes, mine[0])
        np.testing.assert_array_equal(scales, mine[1][:, 0])
        np.testing.assert_array_equal(mxfp4.decode(codes, scales), my_numbers(codes, scales[:, None]).ravel())
        self.assertEqual(mxfp4.encode(x[:0])[0].shape, (0, 16))

    def test_dialects_differ_at_255(self):
        codes, scales = np.full((1, 16), 0x11, np.uint8), np.array([[255]], np.uint8)
        self.assertEqual(mxfp4.dialects(), ["ocp", "inf_at_255", "ggml", "gpt_oss", "openvino"])
        self.assertTrue(np.isnan(mxfp4.dequantize(codes, scales)).all())
        self.assertTrue(np.isposinf(mxfp4.dequantize(codes, scales, "inf_at_255")).all())
        self.assertEqual(mxfp4.dequantize(codes, scales, "ggml")[0, 0], np.float32(2.0**127))

    def test_types_of_the_input_have_the_same_bytes(self):
        for dtype in (np.float16, ml_dtypes.bfloat16):
            w = weights(dtype=dtype)
            for mine, theirs in zip(mxfp4.quantize(w), mxfp4.quantize(w.astype(np.float32))):
                np.testing.assert_array_equal(mine, theirs)

    def test_subclass_of_an_array(self):
        class Mine(np.ndarray):
            pass

        w = weights(dtype=ml_dtypes.bfloat16)
        for mine, theirs in zip(mxfp4.quantize(w.view(Mine)), mxfp4.quantize(w)):
            np.testing.assert_array_equal(mine, theirs)

    def test_rows_may_be_apart_and_memory_read_only(self):
        w = weights(6, 128)
        w.flags.writeable = False
        codes, scales = mxfp4.quantize(w)
        for part in (w[::2], w[:, 32:96], w[:1]):
            expected = mxfp4.quantize(np.ascontiguousarray(part))
            for mine, theirs in zip(mxfp4.quantize(part), expected):
                np.testing.assert_array_equal(mine, theirs)
        np.testing.assert_array_equal(mxfp4.dequantize(codes[:, 16:48], scales[:, 1:3]),
                                      mxfp4.dequantize(codes, scales)[:, 32:96])

    def test_isa(self):
        """The environment picks among those that the module has; one that is not there is an error in words."""
        script = ("import mxfp4, numpy\n"
                  "try: print(mxfp4.isa(), mxfp4.quantize(numpy.ones((1, 32), numpy.float32))[1][0, 0])\n"
                  "except RuntimeError as error: print(error)")
        base = {"x86_64": "sse2", "aarch64": "neon"}[os.uname().machine]
        for isa, expected in ((base, f"{base} 125"), ("mmx", "MXFP4_ISA is 'mmx', expected one that this CPU and this")):
            done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "MXFP4_ISA": isa},
                                  capture_output=True, text=True)
            self.assertTrue(done.stdout.startswith(expected), done.stdout + done.stderr)
        self.assertIn(base, done.stdout)


class Case(unittest.TestCase):
    def refused(self, exception, sentence, call, *arguments, **options):
        with self.assertRaises(exception) as caught:
            call(*arguments, **options)
        self.assertEqual(str(caught.exception), sentence)
        self.assertIs(type(caught.exception), exception)


class Refused(Case):
    def test_dtype(self):
        numbers = "expected float32, bfloat16 or float16"
        self.refused(TypeError, f"w is float64, {numbers}", mxfp4.quantize, weights(dtype=np.float64))
        self.refused(TypeError, f"x is int8, {numbers}", mxfp4.encode, np.zeros(32, np.int8))
        self.refused(TypeError, f"w is float8_e4m3fn, {numbers}", mxfp4.quantize, weights(dtype=ml_dtypes.float8_e4m3fn))
        codes, scales = mxfp4.quantize(weights())
        self.refused(TypeError, "codes is int8, expected uint8", mxfp4.dequantize, codes.view(np.int8), scales)
        self.refused(TypeError, "scales is float32, expected uint8", mxfp4.dequantize, codes, scales.astype(np.float32))
        self.refused(TypeError, f"x is float64, {numbers}", mxfp4.gemv, codes, scales, np.zeros(96))
        with self.assertRaisesRegex(TypeError, "^w is .*, expected a plain array$"):
            mxfp4.quantize(weights(dtype=">f4"))

    def test_kind(self):
        self.refused(TypeError, "w is a list, expected an array: numpy.asarray makes one", mxfp4.quantize, [[0.0] * 32])
        self.refused(TypeError, "w is a NoneType, expected an array: numpy.asarray makes one", mxfp4.quantize, None)

    def test_shape(self):
        codes, scales = mxfp4.quantize(weights())
        self.refused(ValueError, "w.ndim is 1, expected 2", mxfp4.quantize, np.zeros(32, np.float32))
        self.refused(ValueError, "x.ndim is 2, expected 1", mxfp4.encode, np.zeros((1, 32), np.float32))
        self.refused(ValueError, "w.cols is 33, expected a multiple of 32: pad the rows, or leave this tensor as it is",
                     mxfp4.quantize, np.zeros((1, 33), np.float32))
        self.refused(ValueError, "2 * codes.shape[1] is 94, expected a multiple of 32: pad the rows, or leave this "
                     "tensor as it is", mxfp4.dequantize, codes[:, :47], scales)
        self.refused(ValueError, "scales.shape[0] is 4, expected 5", mxfp4.dequantize, codes, scales[:4])
        self.refused(ValueError, "scales.shape[1] is 2, expected 3", mxfp4.dequantize, codes, scales[:, :2])
        self.refused(ValueError, "codes.shape[1] is 48, expected 16", mxfp4.decode, codes, scales[0])
        self.refused(ValueError, "scales.shape[0] is 3, expected 5", mxfp4.decode, codes[:, :16], scales[0])
        self.refused(ValueError, "x.cols is 95, expected 96", mxfp4.gemv, codes, scales, np.zeros(95, np.float32))

    def test_stride(self):
        w = weights(4, 128)
        self.refused(ValueError, "w.stride of the last dimension is 2, expected 1: make it contiguous", mxfp4.quantize,
                     w[:, ::2])
        self.refused(ValueError, "w.stride of the last dimension is 4, expected 1: make it contiguous", mxfp4.quantize,
                     weights(64, 4).T)
        self.refused(ValueError, "w.stride is 0, expected at least 32, the length of a row", mxfp4.quantize,
                     np.broadcast_to(w[0, :32], (3, 32)))
        self.refused(ValueError, "w.stride is -128, expected at least 128, the length of a row", mxfp4.quantize, w[::-1])
        self.refused(ValueError, "x.stride of the last dimension is 2, expected 1: make it contiguous", mxfp4.encode,
                     w[0, ::2])
        odd = np.frombuffer(bytes(4 * 32 + 1), np.float32, offset=1, count=32)
        for call in (lambda: mxfp4.quantize(odd.reshape(1, 32)), lambda: mxfp4.encode(odd)):
            with self.assertRaisesRegex(ValueError, r"^[wx].data is [123] bytes past a multiple of 4: align it$"):
                call()

    def test_names(self):
        w = weights()
        codes, scales = mxfp4.quantize(w)
        with self.assertRaisesRegex(ValueError, "^recipe is 'OCP', expected one of ocp, compressed_tensors, "):
            mxfp4.quantize(w, "OCP")
        self.refused(ValueError, "dialect is 'ieee', expected one of ocp, inf_at_255, ggml, gpt_oss, openvino",
                     mxfp4.dequantize, codes, scales, "ieee")
        self.refused(ValueError, "dtype is 'float64', expected one of float32, bfloat16, float16", mxfp4.decode,
                     codes[:, :16], scales[:, 0], dtype="float64")
        self.refused(ValueError, "nonfinite is 'ignore', expected one of encode, refuse", mxfp4.quantize, w,
                     nonfinite="ignore")

    def test_nonfinite(self):
        w = weights()
        w[1, 2] = np.inf
        self.assertEqual(mxfp4.quantize(w)[1][1, 0], 255)
        self.refused(ValueError, "w has a NaN or an infinity at element 98 (row-major): repair it, or allow non-finite "
                     "blocks", mxfp4.quantize, w, nonfinite="refuse")


@unittest.skipIf(torch is None, "no torch: setup.sh --with train")
class Torch(Case):
    def test_same_bytes_as_numpy(self):
        w = weights()
        for theirs in (torch.from_numpy(w), torch.from_numpy(w).to(torch.bfloat16), torch.from_numpy(w).to(torch.float16)):
            codes, scales = mxfp4.quantize(theirs, "mlx")
            self.assertIsInstance(codes, torch.Tensor)
            mine = mxfp4.quantize(theirs.to(torch.float32).numpy(), "mlx")
            np.testing.assert_array_equal(codes.numpy(), mine[0])
            np.testing.assert_array_equal(scales.numpy(), mine[1])
            for dtype in ("float32", "bfloat16", "float16"):
                back = mxfp4.dequantize(codes, scales, dtype=dtype)
                self.assertEqual(back.dtype, getattr(torch, dtype))
                np.testing.assert_array_equal(back.to(torch.float32).numpy(),
                                              mxfp4.dequantize(*mine, dtype=dtype).astype(np.float32))
            parameter = torch.nn.Parameter(theirs)   # its memory is read, its gradient is none of ours
            np.testing.assert_array_equal(mxfp4.quantize(parameter, "mlx")[0].numpy(), mine[0])
            x = torch.from_numpy(w[0].copy()).to(theirs.dtype)
            y = mxfp4.gemv(codes, scales, x)
            np.testing.assert_allclose(y.numpy(), my_numbers(*mine) @ x.to(torch.float32).numpy(), rtol=1e-4, atol=1e-4)

    def test_device(self):
        self.refused(TypeError, "w is on device 'meta', expected 'cpu': copy it there", mxfp4.quantize,
                     torch.zeros(2, 32, device="meta"))
        codes, scales = mxfp4.quantize(torch.ones(2, 32))
        self.refused(TypeError, "scales is on device 'meta', expected 'cpu': copy it there", mxfp4.dequantize, codes,
                     scales.to("meta"))

    def test_subclass_of_a_tensor(self):
        class Mine(torch.Tensor):
            pass

        w = weights()
        codes, scales = mxfp4.quantize(torch.from_numpy(w).as_subclass(Mine).requires_grad_())
        self.assertIsInstance(codes, torch.Tensor)
        for theirs, mine in zip((codes, scales), mxfp4.quantize(w)):
            np.testing.assert_array_equal(theirs.numpy(), mine)

    def test_default_device(self):
        """Results are on the CPU, whatever torch makes new tensors on."""
        w = torch.from_numpy(weights())
        codes, scales = mxfp4.quantize(w)
        numbers = mxfp4.dequantize(codes, scales)
        meta = (torch.device("meta") if hasattr(torch, "set_default_device") else   # torch before 2.0 has no default
                unittest.mock.patch.object(torch, "empty", functools.partial(torch.empty, device="meta")))
        with meta:
            made = (*mxfp4.quantize(w), mxfp4.dequantize(codes, scales))
        for tensor, expected in zip(made, (codes, scales, numbers)):
            self.assertEqual(tensor.device.type, "cpu")
            np.testing.assert_array_equal(tensor.numpy(), expected.numpy())

    def test_torch_dtype_shape_and_stride(self):
        self.refused(TypeError, "w is float64, expected float32, bfloat16 or float16", mxfp4.quantize,
                     torch.zeros(2, 32, dtype=torch.float64))
        self.refused(ValueError, "w.ndim is 3, expected 2", mxfp4.quantize, torch.zeros(1, 2, 32))
        self.refused(ValueError, "w.stride of the last dimension is 2, expected 1: make it contiguous", mxfp4.quantize,
                     torch.zeros(32, 2).T)
        self.refused(ValueError, "w.stride is 0, expected at least 32, the length of a row", mxfp4.quantize,
                     torch.zeros(1, 32).expand(3, 32))
        with self.assertRaisesRegex(TypeError, "^w is .*, expected a plain array$"):
            mxfp4.quantize(torch.eye(32).to_sparse())


class Stubs(unittest.TestCase):
    def test_type_checker(self):
        """The stub lists what the module has, and a type checker finds the wrong line and no other."""
        folder = os.path.dirname(mxfp4.__file__)
        with open(os.path.join(folder, "_mxfp4.pyi"), encoding="utf-8") as file:
            stub = file.read()
        for name in mxfp4.__all__:
            self.assertRegex(stub, rf"(?m)^(def {name}\(|{name}: )")
        program = ("import mxfp4\nimport numpy as np\nw = np.zeros((1, 32), np.float32)\n"
                   "codes, scales = mxfp4.quantize(w, 'ocp', nonfinite='refuse')\ncodes.reshape(-1)\n"
                   "names: list[str] = mxfp4.recipes()\nmxfp4.quantize(w, recipe=3)\n")
        done = subprocess.run([sys.executable, "-m", "mypy", "-c", program], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        self.assertIn('<string>:7: error: Argument "recipe"', done.stdout)
        self.assertIn("Found 1 error in 1 file", done.stdout)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
