"""Run llama.cpp in an environment that has the package ``xllamacpp``, and answer requests for timings.

This file runs by itself, under the Python of that environment, and needs nothing of this repository:

    python llama_cpp_process.py MODEL.gguf THREADS CONTEXT

Each line of input is a JSON object with ``prompt``, a list of token ids, and ``tokens``, how many to decode. Each line
of output is one with ``prefill`` and ``decode``, tokens a second as llama.cpp itself has measured them. The first line
of output tells that the model is loaded.
"""

import importlib
import json
import os
import sys


def main(model: str, threads: int, context: int) -> None:
    """Serve requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # llama.cpp may write to standard output
    xllamacpp = importlib.import_module("xllamacpp")  # of that environment, not of ours
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.n_ctx = context
    parameters.n_parallel = 1
    parameters.warmup = True
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(parameters)
    print(json.dumps({"loaded": model}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = server.handle_completions(
            {
                "prompt": request["prompt"],
                "n_predict": request["tokens"],
                "temperature": 0.0,
                "ignore_eos": True,
                "cache_prompt": False,
            }
        )
        timings = (json.loads(answer) if isinstance(answer, str) else answer)["timings"]
        rates = {"prefill": timings["prompt_per_second"], "decode": timings["predicted_per_second"]}
        print(json.dumps(rates), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
