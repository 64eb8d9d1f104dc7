"""A vocabulary of genes as a model of sentence-transformers, scored by its evaluators on pairs of genes."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.evaluation import (
    BinaryClassificationEvaluator,
    EmbeddingSimilarityEvaluator,
)
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers

vocabulary = json.loads(Path("vocab.json").read_text())
with np.load("vocab.npz", allow_pickle=False) as arrays:
    vectors, mask = arrays["vectors"], arrays["mask"]
tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_weights=vectors)], device="cpu")
assert np.allclose(model.encode("STAT1"), vectors[vocabulary["STAT1"]])
interferon = ("IFNGR1", "IFNGR2", "JAK2", "STAT1", "STAT2", "IRF1", "IRF7")  # against checkpoints and others
others = ("CD86", "PDCD1LG2", "CAV1", "CUL3", "MYC", "SMAD4", "TNFRSF14")
pairs = [(first, second, 1) for first, second in combinations(interferon, 2)]
pairs += [(first, second, 0) for first in interferon for second in others]
assert all(mask[vocabulary[gene]] for gene in (*interferon, *others))
first, second, labels = map(list, zip(*pairs, strict=True))
binary = BinaryClassificationEvaluator(first, second, labels)(model)
similarity = EmbeddingSimilarityEvaluator(first, second, labels)(model)
did = f"{len(pairs)} pairs of interferon signaling: average precision {binary['cosine_ap']:.2f}"
print(f"{did}, Spearman {similarity['spearman_cosine']:.2f} by the two evaluators")  # noqa: T201
