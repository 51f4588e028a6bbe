"""Run one network in its own process; `forms.py` asks it for its answers and for blocks of calls.

    python paddle_worker.py make PADDLECLAS_NAME WEIGHTS.npz SIZE FOLDER
    python paddle_worker.py run FOLDER IMAGES.npy THREADS

This file runs in an environment of PaddleClas, and `serve` in forms.py's own too: it needs neither vertebra
nor torch. `make` builds PaddleClas's network with the parameters given and saves its inference model; exit
code 4 means that the package has no such network. `run` serves it on Paddle Inference with oneDNN.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

FEWEST_CALLS = 3
_ABSENT = 4


def serve(infer, answers, about):
    """Print `about`, then obey lines on stdin: `answers PATH` saves the result of `answers`, and `block
    SECONDS` calls `infer` that long, after one call that isn't counted, and prints the calls' seconds."""
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    print(json.dumps(about), file=channel, flush=True)
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "answers":
            np.save(argument, answers())
            result = argument
        else:
            result = block(infer, float(argument))
        be_quiet()
        print(json.dumps(result), file=channel, flush=True)


def block(infer, seconds):
    infer()
    times, end = [], time.perf_counter() + seconds
    while len(times) < FEWEST_CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        infer()
        times.append(time.perf_counter() - start)
    return times


def be_quiet():
    """Wait until threads that spin after their work have stopped, half a second at most."""
    for _ in range(25):
        before = time.process_time()
        time.sleep(0.02)
        if time.process_time() - before < 0.002:
            return


def make(name, weights, size, folder):
    import paddle
    from paddleclas.ppcls.arch import backbone

    if not hasattr(backbone, name):
        return _ABSENT
    network = getattr(backbone, name)(class_num=1000)
    arrays = dict(np.load(weights))
    missing, unexpected = network.set_state_dict({key: paddle.to_tensor(arrays[key]) for key in arrays})
    if missing or unexpected:
        raise SystemExit(f"the parameters don't fit: {missing[:3]} missing, {unexpected[:3]} unexpected")
    network.eval()
    spec = paddle.static.InputSpec([None, 3, int(size), int(size)], "float32", "images")
    static = paddle.jit.to_static(network, input_spec=[spec], full_graph=True)
    paddle.jit.save(static, str(Path(folder, "inference")))
    return 0


def run(folder, images, threads):
    import paddle
    from paddle import inference

    config = inference.Config(str(Path(folder, "inference.json")), str(Path(folder, "inference.pdiparams")))
    config.disable_gpu()
    config.disable_glog_info()
    config.enable_onednn()
    config.enable_new_ir(True)  # needed with the next line to optimise the memory of models in the new format
    config.enable_new_executor(True)
    config.switch_ir_optim(True)
    config.enable_memory_optim()
    config.set_cpu_math_library_num_threads(int(threads))
    predictor = inference.create_predictor(config)
    batch = np.load(images)
    given = predictor.get_input_handle(predictor.get_input_names()[0])
    given.reshape(batch.shape)
    given.copy_from_cpu(batch)
    output = predictor.get_output_handle(predictor.get_output_names()[0])

    def answers():
        predictor.run()
        return output.copy_to_cpu()

    state = {"version": paddle.__version__, "threads": config.cpu_math_library_num_threads(),
             "onednn": config.onednn_enabled()}  # fmt: skip
    serve(predictor.run, answers, state)
    return 0


if __name__ == "__main__":
    sys.exit({"make": make, "run": run}[sys.argv[1]](*sys.argv[2:]))
