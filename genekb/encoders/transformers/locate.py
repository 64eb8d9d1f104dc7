"""Where the files of a transformer lie: a bundling package, a folder of models, the hub's cache, the hub."""

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from genekb.encoders.base import FOLDER_PREFIX, folder_name, is_folder_path
from genekb.encoders.catalogue import ModelEntry, Where
from genekb.net.client import hub_errors

MODELS_VARIABLE = "GENEKB_MODELS"  # environment variable: folders that hold model folders, separated as in PATH

_COMMIT_LENGTH = 40
_CONFIGURATION = ("*.json", "*.txt", "*.model")  # tokenizer, model and pooling settings, vocabularies
_CODE = "*.py"
_SAFETENSORS = "model*.safetensors"
_TORCH_WEIGHTS = "pytorch_model*.bin"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """A folder with a model's files."""

    where: Where  # kind of place
    path: Path  # the folder
    revision: str = ""  # the Hub's commit; empty if that is not known


def places(
    model_id: str, *, entry: ModelEntry | None, revisions: Sequence[str], hint: Path | None = None
) -> Iterator[Place]:
    """Folders on this machine that hold the model, the preferred first; nothing is downloaded.

    ``model_id``: Hugging Face id, absolute path, or ``folder:`` and a name. ``revisions``: commits to look for in the
    Hub's cache; an empty one is the main branch. ``hint``: folder in which the model lay before.
    """
    if is_folder_path(model_id):
        known = (Path(model_id), hint) if not model_id.startswith(FOLDER_PREFIX) else (hint,)
        yield from (Place(where="folder", path=path) for path in known if path and _holds_model(path, entry=None))
    if entry and entry.package and (path := _package_folder(entry)):
        yield Place(where="bundled", path=path)
    for parent in filter(None, os.environ.get(MODELS_VARIABLE, "").split(os.pathsep)):
        if _holds_model(path := Path(parent).expanduser() / folder_name(model_id), entry=entry):
            yield Place(where="folder", path=path)
    if not is_folder_path(model_id):
        for revision in dict.fromkeys(revisions):
            if (found := _cached(model_id, revision=revision)) and _holds_model(found.path, entry=entry):
                yield found


def download(model_id: str, *, revision: str, with_code: bool = False) -> Place:
    """Download a model from the Hub into its cache; safetensors where the model has them.

    ``revision``: commit, or empty for the main branch. ``with_code``: its Python files too, none of which is run here.
    Raises ``NotAvailable`` if the Hub cannot be reached, or does not give the model.
    """
    from huggingface_hub import HfApi

    with hub_errors(_shown(model_id)):
        files = HfApi().list_repo_files(model_id, revision=revision or None)
    has_safetensors = any(Path(file).match(_SAFETENSORS) for file in files)
    weights = _SAFETENSORS if has_safetensors else _TORCH_WEIGHTS
    return _fetch(model_id, revision=revision, patterns=[*_CONFIGURATION, weights, *([_CODE] if with_code else [])])


def code_folder(repository: str, *, files: Collection[str], revision: str, online: bool) -> Path | None:
    """Folder of a repository's Python files in the Hub's cache; None if it is not there.

    ``online``: download them where one of ``files`` is missing; ``NotAvailable`` if the Hub does not give them.
    """
    found = _cached(repository, revision=revision)
    if online and not (found and all((found.path / name).is_file() for name in files)):
        found = _fetch(repository, revision=revision, patterns=[_CODE])
    return found.path if found else None


def _fetch(repository: str, *, revision: str, patterns: Sequence[str]) -> Place:
    from huggingface_hub import snapshot_download

    with hub_errors(_shown(repository)):
        path = snapshot_download(repository, revision=revision or None, allow_patterns=list(patterns))
    return _snapshot(Path(path))


def _shown(repository: str) -> str:
    return f"the Hugging Face model {repository!r}"


def _cached(model_id: str, *, revision: str) -> Place | None:
    """Find a snapshot, perhaps not a complete one, in the hub's cache, without a network."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        # No pattern, so no file, is asked for: else a snapshot of which `download` fetched a part would be refused.
        found = snapshot_download(model_id, revision=revision or None, local_files_only=True, allow_patterns=[])
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return _snapshot(Path(found))


def _snapshot(path: Path) -> Place:
    """Place of a snapshot folder, which the hub's cache names by the commit."""
    return Place(where="cached", path=path, revision=path.name if len(path.name) == _COMMIT_LENGTH else "")


def _holds_model(path: Path, *, entry: ModelEntry | None) -> bool:
    """Whether a folder, or its first module's, has a configuration, weights and all files that the entry names."""
    has_model = any(
        (module / "config.json").is_file() and any(any(module.glob(p)) for p in (_SAFETENSORS, _TORCH_WEIGHTS))
        for module in (path, *path.glob("0_*"))
    )
    return has_model and all((path / name).is_file() for name in (entry.sha256 if entry else ()))


def _package_folder(entry: ModelEntry) -> Path | None:
    """Folder of the model inside an installed package, found without importing the package."""
    spec = find_spec(entry.package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / entry.package_folder
