#!/usr/bin/env bash
# vLLM asks a compressed-tensors config about an expert's projection called "None" where experts have no gate.
#
# Expected: targets of compressed-tensors name modules of the checkpoint (its README, "targets": module names, regular
#   expressions, classes). Experts of nemotron_h have up_proj and down_proj; a target that names just these covers them all.
# Happens:  vLLM looks up "<experts>.0.up_proj", "<experts>.0.None" and "<experts>.0.down_proj": the name that its model
#   does not have is formatted into the text. The second finds no scheme, and the load ends in "All MoE projections need to
#   have same quantization scheme but found multiple". A target that fits "None" too is taken.
# Versions: vllm 0.33.0, compressed-tensors 0.17.0, torch 2.13.0 (its configuration code, on a CPU). Seen 2026-11-29.
# Who minds: who writes a config for experts without a gate (nemotron_h) by names. Let the pattern end in
#   (up_proj|down_proj|None)$, or add one for "None".
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/v"
"$tmp/v/bin/pip" install -q -r "$here/../integrations/vllm/requirements.txt"   # what vLLM asks for, without what is for GPUs
"$tmp/v/bin/pip" install -q --no-deps torchvision==0.28.0 vllm==0.33.0
VLLM_TARGET_DEVICE=cpu VLLM_LOGGING_LEVEL=ERROR HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 "$tmp/v/bin/python" - <<'PY'
import importlib.metadata
import torch
from vllm.model_executor.layers.quantization.compressed_tensors import compressed_tensors
from vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors_moe import (
    compressed_tensors_moe as moe)

WEIGHTS = dict(num_bits=4, type="float", strategy="group", group_size=32, symmetric=True, dynamic=False,
               scale_dtype="torch.uint8")
EXPERTS = "model.layers.0.mixer.experts"

def schemes(pattern):
    """What vLLM asks the config about, and whether it finds a scheme."""
    config = compressed_tensors.CompressedTensorsConfig.from_config(dict(
        quant_method="compressed-tensors", format="mxfp4-pack-quantized", ignore=[],
        config_groups=dict(group_0=dict(targets=[pattern], weights=WEIGHTS, format="mxfp4-pack-quantized"))))
    layer = torch.nn.Module()
    layer.ckpt_gate_proj_name, layer.ckpt_down_proj_name, layer.ckpt_up_proj_name = "up_proj", "down_proj", None
    layer.moe_config = None
    asked, get = {}, config.get_scheme_dict
    def recorded(of, name):
        scheme = get(of, name)
        asked[name] = scheme is not None
        return scheme
    config.get_scheme_dict = recorded
    try:
        moe.CompressedTensorsMoEMethod.get_moe_method(config, layer, EXPERTS)
        said = "a method"
    except ValueError as error:
        said = str(error)
    except Exception as error:  # a scheme was found, and its method wants a device
        said = "a method, then " + type(error).__name__
    return asked, said

print("vllm", importlib.metadata.version("vllm"), "compressed-tensors", importlib.metadata.version("compressed-tensors"))
narrow = schemes(r"re:.*\.experts\.[0-9]+\.(up_proj|down_proj)$")
wide = schemes(r"re:.*\.experts\.[0-9]+\.(up_proj|down_proj|None)$")
for name, (asked, said) in dict(narrow=narrow, wide=wide).items():
    print(f"  {name}: {asked}: {said}")
assert narrow[0] == {f"{EXPERTS}.0.up_proj": True, f"{EXPERTS}.0.None": False, f"{EXPERTS}.0.down_proj": True}
assert "found multiple" in narrow[1]
assert all(wide[0].values()) and wide[1].startswith("a method")
PY
