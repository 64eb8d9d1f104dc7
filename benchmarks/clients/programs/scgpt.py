"""Rows in the order of a vocabulary as the gene tokens of a model in scGPT's way: unknown tokens are learned anew."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

vocabulary = json.loads(Path("vocab.json").read_text())
loaded = load_file("vocab.safetensors")
vectors, has_vector = loaded["vectors"], loaded["mask"].bool()
assert len(vectors) == len(vocabulary)
embedding = torch.nn.Embedding.from_pretrained(vectors.clone(), freeze=False, padding_idx=vocabulary["<pad>"])
with torch.no_grad():  # rows without a vector start as any new token does
    embedding.weight[~has_vector] = torch.randn(int((~has_vector).sum()), vectors.shape[1]) * vectors[has_vector].std()
layer = torch.nn.TransformerEncoderLayer(vectors.shape[1], nhead=1, dim_feedforward=64, batch_first=True)
tokens = torch.tensor([[vocabulary["<cls>"], vocabulary["STAT1"], vocabulary["IRF1"], vocabulary["<pad>"]]])
loss = layer(embedding(tokens)).square().mean()
loss.backward()
assert torch.equal(embedding.weight[vocabulary["STAT1"]], vectors[vocabulary["STAT1"]])
print(f"{len(vectors)} tokens, {int(has_vector.sum())} with a vector; one step of a transformer, loss {loss:.3f}")  # noqa: T201
