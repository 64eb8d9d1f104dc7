"""Vectors as features of perturbations: five steps of State's own training command."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

with np.load("perturbed.npz", allow_pickle=False) as arrays:
    features = {name: torch.from_numpy(row) for name, row in zip(arrays["symbols"], arrays["vectors"], strict=True)}
features = {str(name): row.clone() for name, row in features.items()}
features["non-targeting"] = torch.zeros_like(next(iter(features.values())))
torch.save(features, "features.pt")
held = sorted(features)[:3]
Path("cells").mkdir(exist_ok=True)
Path("cells/cells.h5ad").write_bytes(Path("cells.h5ad").read_bytes())
Path("split.toml").write_text(
    f'[datasets]\nscreen = "{Path("cells").absolute()}"\n[training]\nscreen = "train"\n[zeroshot]\n'
    f'[fewshot]\n[fewshot."screen.THP-1"]\nval = {json.dumps(held[:1])}\ntest = {json.dumps(held[1:])}\n'
)
settings = {
    **{f"data.kwargs.{key}": value for key, value in {
        "toml_config_path": "split.toml", "perturbation_features_file": "features.pt", "num_workers": 0,
        "pin_memory": "false", "batch_col": "batch", "pert_col": "perturbation", "control_pert": "non-targeting",
        "cell_type_key": "cell_type", "output_space": "all",
    }.items()},
    **{f"model.kwargs.{key}": value for key, value in {
        "cell_set_len": 16, "hidden_dim": 64, "n_encoder_layers": 1, "n_decoder_layers": 1,
        "transformer_backbone_kwargs.intermediate_size": 64, "transformer_backbone_kwargs.num_hidden_layers": 1,
        "transformer_backbone_kwargs.num_attention_heads": 4, "transformer_backbone_kwargs.num_key_value_heads": 4,
        "transformer_backbone_kwargs.head_dim": 16,
    }.items()},
    **{f"training.{key}": value for key, value in {
        "wandb_track": "false", "batch_size": 4, "max_steps": 5, "val_freq": 5, "ckpt_every_n_steps": 5,
    }.items()},
    "model": "state_sm", "use_wandb": "false", "output_dir": "state", "name": "run", "overwrite": "true",
}  # fmt: skip
command = [
    Path(sys.executable).with_name("state"),
    "tx",
    "train",
    *(f"{key}={value}" for key, value in settings.items()),
]
done = subprocess.run(command, capture_output=True, text=True, check=False)
sys.stderr.write(done.stderr[-4000:])
assert done.returncode == 0
found = re.search(r"Loaded custom perturbation featurizations for (\d+) perturbations", done.stderr + done.stdout)
zeros = re.search(r"Set (\d+) missing", done.stderr + done.stdout)
assert zeros is None, zeros
weights = torch.load(next(Path("state/run").rglob("*.ckpt")), map_location="cpu", weights_only=False)["state_dict"]
dim = weights["pert_encoder.0.weight"].shape[1]
assert dim == len(features[held[0]])
did = (
    f"features of {len(features)} perturbations, none set to zeros; 5 steps of `state tx train`, encoder of {dim} dims"
)
print(did)  # noqa: T201
