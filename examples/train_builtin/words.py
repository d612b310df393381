"""Writes what the training starts from: Korean words as they stand in text, and a vector for each.

    pip install kiwipiepy==0.24.1 kiwipiepy_model==0.24.0 numpy safetensors
    python words.py WORDS.safetensors

The vectors are those of the CoNgram language model of the Kiwi morphological analyser (kiwipiepy_model, Apache-2.0),
read through its public interface: cosines to some hundred anchors, from which the vectors follow up to a rotation.
Words are its nouns, adverbs and roots, and its verbs as people write them: stem and ending grown together.

The file holds `words` (UTF-8, one a line, most frequent first), `vectors` f32 [words, 256] of unit length, and
`ranks` i32 [words]: the place of the morpheme by frequency.
"""

import sys

import numpy as np
from kiwipiepy import Kiwi
from safetensors.numpy import save_file

N_MORPHEMES = 70_488
DIMENSION = 256
N_ANCHORS = 600
# Directions that nearly all words share: they tell how frequent a word is, not what it means.
N_COMMON_DIRECTIONS = 10
NOMINAL = ("NNG", "NNP", "MAG", "XR")
VERBAL = ("VV", "VA")
MAX_CHARS = 6
N_SHORT_NOUNS = 400
PARTICLES = (("을", "JKO"), ("이", "JKS"), ("은", "JX"), ("도", "JX"), ("만", "JX"), ("에", "JKB"), ("의", "JKG"), ("로", "JKB"))
ENDINGS = (("는", "ETM"), ("은", "ETM"), ("을", "ETM"), ("고", "EC"), ("면", "EC"), ("지", "EC"), ("나요", "EF"),
           ("어요", "EF"), ("려고", "EC"), ("어야", "EC"), ("기", "ETN"))


def vectors(kiwi: Kiwi, morphemes: list[tuple[str, str]]) -> np.ndarray:
    """Unit vectors of all morphemes, without the directions that they share."""
    meaningful = [i for i, (_, tag) in enumerate(morphemes) if tag in NOMINAL + VERBAL]
    frequent = [i for i in meaningful if i < 20_000]
    anchors = [int(i) for i in np.random.default_rng(1).choice(frequent, N_ANCHORS, replace=False)]
    similarity = kiwi.morpheme_similarity
    cosines = np.array([[similarity(i, a) for i in range(len(morphemes))] for a in anchors], np.float32).T
    among = cosines[anchors]
    values, axes = np.linalg.eigh((among + among.T) / 2)
    x = cosines @ axes[:, -DIMENSION:] / np.sqrt(values[-DIMENSION:])
    x -= x[meaningful].mean(0)
    _, axes = np.linalg.eigh(np.cov(x[frequent].T))
    common = axes[:, -N_COMMON_DIRECTIONS:]
    x -= x @ common @ common.T
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def surfaces(kiwi: Kiwi, form: str, tag: str, n_short: int) -> list[str]:
    """How a morpheme stands in text."""
    if tag in VERBAL:
        joined = [kiwi.join([(form, tag), ending]).replace(" ", "") for ending in ENDINGS]
        shortest = max(2, len(form))
        return [form] * (len(form) > 1) + [word[:shortest] for word in joined] + [w for w in joined if len(w) == 1]
    if len(form) == 1:
        inflected = [kiwi.join([(form, tag), particle]) for particle in PARTICLES]
        return [form] + (inflected if n_short < N_SHORT_NOUNS else [])
    return [form]


def main() -> None:
    kiwi = Kiwi(model_type="cong-global", num_workers=1)
    tokens = [kiwi.morpheme(i) for i in range(N_MORPHEMES)]
    morphemes = [(token.form, token.tag.split("-")[0]) for token in tokens]
    of_morphemes = vectors(kiwi, morphemes)
    ranks: dict[str, int] = {}
    n_short = 0
    for rank, (form, tag) in enumerate(morphemes):
        if tag not in NOMINAL + VERBAL or not form:
            continue
        for word in surfaces(kiwi, form, tag, n_short):
            if len(word) <= MAX_CHARS and all("가" <= c <= "힣" for c in word):
                ranks.setdefault(word, rank)
        n_short += tag in NOMINAL and len(form) == 1
    words = sorted(ranks, key=lambda word: (ranks[word], word))
    at = np.array([ranks[word] for word in words], np.int32)
    text = np.frombuffer("\n".join(words).encode(), np.uint8)
    save_file({"words": text, "vectors": of_morphemes[at].astype(np.float32), "ranks": at}, sys.argv[1])
    print(len(words), "words")


if __name__ == "__main__":
    main()
