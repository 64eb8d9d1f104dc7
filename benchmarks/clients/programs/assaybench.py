"""GenePT's dict and its arrays as spaces of gene embeddings: coverage and diversity of a batch of genes."""

import json
from pathlib import Path

import numpy as np
from assaybench.benchmark.diversity import embedding_diversity
from assaybench.data.gene_embeddings import GeneEmbeddings

space = GeneEmbeddings.from_mapping(json.loads(Path("genept.json").read_text()))
with np.load("genept.npz", allow_pickle=False) as arrays:
    again = GeneEmbeddings(arrays["symbols"].tolist(), arrays["vectors"], name=str(arrays["store_id"]))
assert np.array_equal(space.embed("STAT1"), again.embed("STAT1"))
genes = Path("perturbed.txt").read_text().split()
found = embedding_diversity(genes, again)
did = f"{len(again)} genes; coverage of {len(genes)} perturbed {again.coverage(genes):.2f}, Vendi score"
print(f"{did} {found['batch_vendi']:.1f}, diversity {found['batch_diversity_vs_random']:.2f} of a random draw's")  # noqa: T201
