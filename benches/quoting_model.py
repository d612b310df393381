#!/usr/bin/env python3
"""A made-up model that quotes: it costs what a 1.1 B LLaMA costs, and writes one fixed text for ever.

    pip install gguf numpy llama-cpp-python
    python3 benches/quoting_model.py vocabulary.gguf quoting.gguf prompt.txt
    RAGQ_BENCH_MODEL=quoting.gguf RAGQ_BENCH_QUOTING=prompt.txt cargo bench --bench generation

`vocabulary.gguf` is any GGUF file with a SentencePiece vocabulary. Each word of a cycle of words is followed by the next:
the row of `output.weight` for a word is the embedding of the word before it, and embeddings are so large that what the
layers (random weights) add does not matter. `prompt.txt` holds the cycle in shuffled runs of 24 words, so that an
answer is quoted a sentence at a time: a draft is right within a run and wrong at its end. Q4_K_M by llama.cpp.
"""
import os
import sys

import gguf
import llama_cpp
import numpy as np

LAYERS, WIDTH, HEADS, KV_HEADS, FEED_FORWARD = 22, 2048, 32, 4, 5632
N_WORDS, RUN = 480, 24


def main() -> None:
    vocabulary, model, prompt = sys.argv[1:]
    tokenizer = llama_cpp.Llama(vocabulary, vocab_only=True, verbose=False)
    rng = np.random.default_rng(1)
    words = single_tokens(tokenizer, rng)
    plain = model + ".f16"
    write(plain, vocabulary, [token for _, token in words], rng)
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
    failed = llama_cpp.llama_model_quantize(plain.encode(), model.encode(), settings)
    assert failed == 0, "llama.cpp did not quantise the model"
    os.remove(plain)
    texts = [word for word, _ in words]
    runs = [texts[start : start + RUN] for start in range(0, N_WORDS, RUN)]
    order = rng.permutation(len(runs))
    # The last words begin the run that the answer goes on with.
    with open(prompt, "w") as file:
        file.write(" ".join(word for run in order for word in runs[run]) + " " + " ".join(texts[:4]))


def single_tokens(tokenizer, rng):
    """Words that are one token each, in an order of their own."""
    words = []
    for token in range(300, tokenizer.n_vocab()):
        text = tokenizer.detokenize([1, token]).decode(errors="replace").strip()
        if len(text) > 3 and text.isascii() and text.isalpha() and tokenizer.tokenize(text.encode(), add_bos=False) == [token]:
            words.append((text, token))
    return [words[i] for i in rng.permutation(len(words))[:N_WORDS]]


def write(path, vocabulary, cycle, rng):
    reader = gguf.GGUFReader(vocabulary)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    for key, field in reader.fields.items():
        if key.startswith("tokenizer."):
            value_type = field.types[0]
            element = field.types[-1] if value_type == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), value_type, element)
    n_vocab = len(reader.fields["tokenizer.ggml.tokens"].data)

    def random(rows, columns):
        return rng.standard_normal((rows, columns), dtype=np.float32) / np.sqrt(columns)

    embedding = random(n_vocab, WIDTH)
    output = random(n_vocab, WIDTH) * 0.1
    output[np.roll(cycle, -1)] = embedding[cycle]
    tensors = {"token_embd.weight": embedding * 1000, "output.weight": output, "output_norm.weight": np.ones(WIDTH)}
    kv_width = WIDTH // HEADS * KV_HEADS
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.astype(np.float32 if tensor.ndim == 1 else np.float16))
    for layer in range(LAYERS):
        prefix = f"blk.{layer}."
        for norm in ["attn_norm", "ffn_norm"]:
            writer.add_tensor(f"{prefix}{norm}.weight", np.ones(WIDTH, np.float32))
        shapes = {"attn_q": (WIDTH, WIDTH), "attn_k": (kv_width, WIDTH), "attn_v": (kv_width, WIDTH)}
        shapes |= {"attn_output": (WIDTH, WIDTH), "ffn_gate": (FEED_FORWARD, WIDTH)}
        shapes |= {"ffn_up": (FEED_FORWARD, WIDTH), "ffn_down": (WIDTH, FEED_FORWARD)}
        for name, shape in shapes.items():
            writer.add_tensor(f"{prefix}{name}.weight", random(*shape).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main()
