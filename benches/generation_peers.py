#!/usr/bin/env python3
"""benches/generation.rs in turns with llama.cpp on one GGUF file.

    CMAKE_ARGS="-DGGML_NATIVE=ON" pip install llama-cpp-python numpy
    python3 benches/generation_peers.py model.gguf [rounds] [threads]

Prints tokens per second of both, round by round, and the median of each round's ratios (ragq next to llama.cpp): on a
machine that others use, only what ran side by side compares. The second figure of each is tokens per second of CPU
time: with 1 thread it compares even when others take the processor away; with more, waiting threads count, too.
The model's context must hold the longest prompt.

Measured on a Xeon with AVX-512 VNNI, llama-cpp-python 0.3.36, 1.1 B Q4_K_M, 2 threads, medians of three rounds: prefill 512
1.56, prefill 2048 1.49, decode at 512 1.82, at 2048 1.67 (single rounds 1.49 to 1.56, 1.42 to 1.67, 1.79 to 1.88, 1.60 to 1.70).
"""
import os
import random
import statistics
import subprocess
import sys
import time

import llama_cpp

LENGTHS = [512, 2048]
N_STEPS = 48


def main() -> None:
    model = sys.argv[1]
    n_rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    n_threads = sys.argv[3] if len(sys.argv) > 3 else "2"
    print(f"llama-cpp-python {llama_cpp.__version__}, {n_threads} threads")
    peer = llama_cpp.Llama(
        model, n_ctx=max(LENGTHS) + 2 * N_STEPS, n_threads=int(n_threads), n_threads_batch=int(n_threads), verbose=False
    )
    ratios = {}
    for _ in range(n_rounds):
        theirs = measure(peer)
        ours = measure_ragq(model, n_threads)
        for name in theirs:
            both = [ours[name][i] / theirs[name][i] for i in (0, 1)]
            ratios.setdefault(name, []).append(both)
            print(f"{name:13} ragq {pair(ours[name])}   llama.cpp {pair(theirs[name])}   ratio {pair(both)}", flush=True)
    for name, all_rounds in ratios.items():
        medians = [statistics.median(one[i] for one in all_rounds) for i in (0, 1)]
        print(f"{name:13} median ratio {pair(medians)}")


def pair(numbers):
    return f"{numbers[0]:7.2f} ({numbers[1]:7.2f})"


def measure(peer):
    speeds = {}
    for length in LENGTHS:
        tokens = [random.randrange(300, 20000) for _ in range(length)]
        peer.reset()
        speeds[f"prefill {length}"] = timed(length, lambda: peer.eval(tokens))
        speeds[f"decode {length}"] = timed(N_STEPS, lambda: [peer.eval([token]) for token in tokens[:N_STEPS]])
    return speeds


def timed(n_tokens, work):
    started, cpu_started = time.perf_counter(), time.process_time()
    work()
    return n_tokens / (time.perf_counter() - started), n_tokens / (time.process_time() - cpu_started)


def measure_ragq(model, n_threads):
    settings = {"RAGQ_BENCH_MODEL": os.path.abspath(model), "RAGQ_BENCH_THREADS": n_threads}
    settings["RAGQ_BENCH_PROMPTS"] = ",".join(map(str, LENGTHS))
    command = os.environ.get("RAGQ_BENCH_COMMAND", "cargo bench --bench generation").split()
    run = subprocess.run(command, env=os.environ | settings, stdout=subprocess.PIPE, text=True, check=True)
    lines = [line.split() for line in run.stdout.splitlines()]
    return {" ".join(line[:2]): (float(line[2]), float(line[4])) for line in lines if line and line[0] in ("prefill", "decode")}


main()
