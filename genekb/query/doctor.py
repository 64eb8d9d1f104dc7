"""What this machine has for the work: packages, threads, memory, GPUs, stores."""

import os
import platform
from pathlib import Path
from typing import Any

from genekb.core.errors import GeneKBError
from genekb.core.plugins import EXTRAS, installed_version, is_installed
from genekb.core.resources import available_memory
from genekb.store.home import find_home, list_store_folders
from genekb.store.reader import Store


def doctor(*, home: str | Path | None = None) -> dict[str, Any]:
    """Say what this machine has for the work, as `cellmodel doctor` does: nothing is changed, no network is asked.

    Returns
    -------
    ``versions`` of packages; ``extras`` by name, with what each lacks; ``threads``, ``memory`` in bytes, ``gpus``;
    ``home`` and its ``stores``, each with its encoders or what is wrong with it.

    Examples
    --------
    >>> import genekb as gk
    >>> found = gk.doctor()
    >>> "demo@1" in [store["store"] for store in found["stores"]], found["threads"] >= 1
    (True, True)
    """
    extras: dict[str, list[str]] = {}
    for module, (package, extra) in EXTRAS.items():
        extras.setdefault(extra, []).extend([] if is_installed(module) else [package])
    packages = sorted({package for package, _ in EXTRAS.values()} | {"numpy", "pyarrow", "duckdb"})
    found = {package: installed_version(package) for package in ("genekb-cellmodel", *packages)}
    where = find_home(None if home is None else Path(home))
    gpus = []
    if is_installed("torch"):
        import torch

        gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {package: version for package, version in found.items() if version != "source tree"},
        "extras": {extra: {"is_here": not lacking, "lacks": lacking} for extra, lacking in sorted(extras.items())},
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": available_memory(),
        "gpus": gpus,
        "home": str(where),
        "stores": [_examined(folder) for folder in list_store_folders(where)],
    }


def _examined(folder: Path) -> dict[str, Any]:
    """Say what a store is, or why it cannot be opened; its bytes are not read."""
    name = folder.parent.name
    try:
        kb = Store(folder)
    except GeneKBError as error:
        return {"store": name, "fault": str(error)}
    return {
        "store": name,
        "digest": kb.manifest.digest[:16],
        "n_texts": kb.manifest.n_texts,
        "encoders": list(kb.encoder_ids),
    }
