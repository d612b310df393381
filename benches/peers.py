#!/usr/bin/env python3
"""hnswlib, usearch and faiss on the vectors of benches/index.rs.

    pip install hnswlib==0.8.0 usearch==2.26.6 faiss-cpu==1.15.1 numpy
    RAGQ_BENCH_GRAPH=1 RAGQ_BENCH_VECTORS=vectors.f32 cargo bench --bench index
    python3 benches/peers.py vectors.f32 256

Prints for each: CPU seconds to build (M 16, efConstruction 200), and recall@10 and milliseconds of CPU for a query
(ef 64) after the index has been saved and opened again, the opening included in the first.
"""
import os
import sys
import tempfile
import time
from importlib.metadata import version

import numpy as np


DISTRIBUTIONS = {"hnswlib": "hnswlib", "usearch": "usearch", "faiss": "faiss-cpu"}


def main() -> None:
    dimension = int(sys.argv[2])
    vectors = np.fromfile(sys.argv[1], dtype="<f4").reshape(-1, dimension)
    rng = np.random.default_rng(1)
    queries = vectors[rng.choice(len(vectors), 200)] + rng.normal(0, 0.03, (200, dimension)).astype("f4")
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    expected = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    folder = tempfile.mkdtemp()
    for name, build, reopen in [hnswlib_peer(dimension), usearch_peer(dimension), faiss_peer(dimension)]:
        path = os.path.join(folder, name)
        started = time.process_time()
        build(vectors, path)
        built = time.process_time() - started
        started = time.process_time()
        search = reopen(path, len(vectors))
        search(queries[:1])
        first = time.process_time() - started
        started = time.process_time()
        found = search(queries)
        each = (time.process_time() - started) / len(queries)
        recall = np.mean([len(set(f) & set(e)) / 10 for f, e in zip(found, expected)])
        print(f"{name:10} {version(DISTRIBUTIONS[name]):8} build {built:8.1f} s   first {1000 * first:8.1f} ms   each {1000 * each:6.2f} ms   recall {recall:.4f}")


def hnswlib_peer(dimension):
    import hnswlib

    def build(vectors, path):
        index = hnswlib.Index("cosine", dimension)
        index.init_index(len(vectors), M=16, ef_construction=200)
        index.add_items(vectors)
        index.save_index(path)

    def reopen(path, n):
        index = hnswlib.Index("cosine", dimension)
        index.load_index(path, n)
        index.set_ef(64)
        return lambda queries: index.knn_query(queries, 10, num_threads=1)[0]

    return "hnswlib", build, reopen


def usearch_peer(dimension):
    from usearch.index import Index

    def build(vectors, path):
        index = Index(ndim=dimension, metric="cos", connectivity=16, expansion_add=200)
        index.add(np.arange(len(vectors)), vectors)
        index.save(path)

    def reopen(path, n):
        index = Index.restore(path, view=True)
        index.expansion_search = 64
        return lambda queries: [index.search(query, 10).keys for query in queries]

    return "usearch", build, reopen


def faiss_peer(dimension):
    import faiss

    def build(vectors, path):
        index = faiss.IndexHNSWFlat(dimension, 16, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 200
        index.add(vectors)
        faiss.write_index(index, path)

    def reopen(path, n):
        index = faiss.read_index(path)
        index.hnsw.efSearch = 64
        return lambda queries: index.search(queries, 10)[1]

    return "faiss", build, reopen


main()
