"""The graph of genes in place of that of GO: two epochs of GEARS."""

import pickle
from pathlib import Path

import anndata
import pandas as pd
from gears import GEARS, PertData
from gears.utils import GeneSimNetwork

edges = pd.read_csv("graph.csv")
# GEARS downloads this file, and reads in it which genes have a node
Path("gene2go_all.pkl").write_bytes(pickle.dumps({gene: set() for gene in edges["target"].unique()}))
data = PertData(".", default_pert_graph=False)
data.new_data_process("papalexi", adata=anndata.read_h5ad("cells.h5ad"))
data.prepare_split(split="single", seed=1)
data.get_dataloader(batch_size=32)
graph = GeneSimNetwork(edges, data.pert_names.tolist(), node_map=data.node_map_pert)
model = GEARS(data, device="cpu")
model.model_initialize(hidden_size=16, G_go=graph.edge_index, G_go_weight=graph.edge_weight)
model.train(epochs=2)
unseen = data.set2conditions["test"][0].removesuffix("+ctrl")
(predicted,) = model.predict([[unseen]]).values()
did = f"graph of {len(data.pert_names)} genes, {len(edges)} edges; 2 epochs"
print(f"{did}; {len(predicted)} genes predicted for {unseen}")  # noqa: T201
