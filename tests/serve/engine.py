# tests/serve/engine.py -- vLLM's engine in a process of its own, for the checks: what it generates, or what it says.
# SPDX-License-Identifier: Apache-2.0
"""engine.py '{"model": DIR, "prompts": [[ids], ...], "tokens": N, "options": {...}}' prints PEAK, the most memory
that it had, in bytes, and RESULT and a list."""
import json
import os
import resource
import subprocess
import sys

ENVIRONMENT = dict(VLLM_CPU_KVCACHE_SPACE="1", VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_OMP_THREADS_BIND="nobind",
                   OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1")


def generate(model, prompts, tokens=40, environment=None, alone=False, logprobs=False, likely=False, **options):
    """For each prompt greedy tokens, and with logprobs the logarithm of the probability of each token of the prompt,
    with likely for each of the tokens [[token, its logarithm], ...] of the three that are the most probable.
    Then what the process said. RuntimeError with the line that names an error where there is no answer.
    alone: one prompt after the other."""
    request = dict(model=str(model), prompts=prompts, tokens=tokens, alone=alone, logprobs=logprobs, likely=likely,
                   options=options)
    done = subprocess.run([sys.executable, __file__, json.dumps(request)], capture_output=True, text=True,
                          env={**os.environ, **ENVIRONMENT, **(environment or {})}, timeout=1800)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            return json.loads(line.removeprefix("RESULT ")), done.stdout + done.stderr
    if done.returncode < 0:
        raise RuntimeError(f"ended by signal {-done.returncode}")
    said = [line for line in done.stderr.splitlines() + done.stdout.splitlines() if "Error: " in line]
    raise RuntimeError(next((line for line in said if "mxfp4" in line or "expected" in line), said[-1] if said else
                            done.stderr[-2000:]))


def main():
    request = json.loads(sys.argv[1])
    from vllm import LLM, SamplingParams
    options = dict(max_model_len=256, max_num_seqs=8, enforce_eager=True) | request["options"]
    llm = LLM(model=request["model"], skip_tokenizer_init=True, dtype="bfloat16", disable_log_stats=True,
              enable_prefix_caching=False, **options)
    wanted = SamplingParams(temperature=0, max_tokens=request["tokens"], detokenize=False, ignore_eos=True,
                            prompt_logprobs=0 if request["logprobs"] else None,
                            logprobs=3 if request["likely"] else None)
    prompts = [dict(prompt_token_ids=ids) for ids in request["prompts"]]
    runs = [[p] for p in prompts] if request["alone"] else [prompts]
    found = []
    for out in (out for run in runs for out in llm.generate(run, wanted, use_tqdm=False)):
        one = [list(out.outputs[0].token_ids)]
        if request["logprobs"]:
            one.append([p.logprob for d in out.prompt_logprobs if d for p in d.values()])
        if request["likely"]:
            one.append([[[token, p.logprob] for token, p in d.items()] for d in out.outputs[0].logprobs])
        found.append(one)
    print(f"\nPEAK {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}")
    print("RESULT " + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
