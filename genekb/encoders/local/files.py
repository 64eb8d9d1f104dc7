"""Files of a model that runs here: where they lie, its own Python code, digests of what decides its vectors.

Only small JSON files are read here; sentence-transformers makes the model of them.
"""

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from genekb.core.errors import EncoderFailed, NotAvailable, StoreCorrupt
from genekb.core.plugins import require
from genekb.encoders.base import FOLDER_PREFIX, folder_name, is_folder_path
from genekb.encoders.kinds import ModelEntry, Where
from genekb.files.atomic import is_plain_path, sha256_file
from genekb.files.limits import read_json
from genekb.net.client import hub_errors

_MODULES = "modules.json"
_LIBRARY = "sentence_transformers."  # modules that are classes of the library itself
_VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
# These number positions from the padding token's id + 1, so that many rows of the table are never used.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet")
_LONGEST = 1_000_000  # tokenizers without a limit state 1e30


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFolder:
    """A model's files."""

    root: Path  # what sentence-transformers opens
    path: Path  # folder of config.json, weights and tokenizer of the transformer; mostly the same
    # hex digests; of several files, the digest of their names and digests
    weights_sha256: str
    tokenizer_sha256: str
    config_sha256: str
    modules_sha256: str  # settings and weights of all that is not the transformer; empty where it is alone
    max_tokens: int  # longest input by positions and tokenizer, special tokens included; 0 if they state no limit
    # classes in Python files that the model brings, by ``AutoConfig``, ``AutoModel``, ``AutoTokenizer`` or the module
    own_classes: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_bare(self) -> bool:
        """Whether there is a transformer alone, without a word on how its token vectors are pooled."""
        return not self.modules_sha256


def read_folder(root: Path) -> ModelFolder:
    """Hash the files of a model.

    Raises ``NotAvailable`` if config.json, weights or tokenizer are missing; ``EncoderFailed`` for an activation that
    is not PyTorch's; ``StoreCorrupt`` for invalid JSON.
    """
    modules = _modules(root)
    path = root / (modules[0][1] if modules else "")
    config_file = path / "config.json"
    if not config_file.is_file():
        raise NotAvailable(f"{path} has no config.json; give a transformers or sentence-transformers folder")
    config, tokenizer = _settings(config_file), _settings(path / "tokenizer_config.json")
    return ModelFolder(
        root=root,
        path=path,
        weights_sha256=_digest(_weights(path)),
        tokenizer_sha256=_digest(_tokenizer(path)),
        config_sha256=sha256_file(config_file),
        modules_sha256=_modules_digest(root, path, [root / folder for _, folder in modules]),
        max_tokens=smallest_limit(_positions(config), tokenizer.get("model_max_length")),
        own_classes=_own_classes(config, tokenizer, [name for name, _ in modules]),
    )


def static_folder(root: Path) -> Path | None:
    """Folder of the table in a folder that says that it holds static word vectors; None where it does not."""
    modules = [(name.rpartition(".")[2], folder) for name, folder in _modules(root)]
    tables = [folder for kind, folder in modules if kind == "StaticEmbedding"]
    if len(tables) == 1 and {kind for kind, _ in modules} <= {"StaticEmbedding", "Normalize"}:
        return root / tables[0]
    return root if _settings(root / "config.json").get("model_type") == "model2vec" else None


def config_mark(folder: ModelFolder) -> str:
    """Stand-in for a hub's commit where a folder has none."""
    return f"config-{folder.config_sha256[:12]}"


def has_files(root: Path, *, sha256: Mapping[str, str]) -> bool:
    """Whether all these files are in `root` with exactly these bytes (and there is at least one to compare)."""
    return bool(sha256) and not _differing(root, sha256=sha256)


def verify_files(root: Path, *, sha256: Mapping[str, str]) -> None:
    """Raise ``StoreCorrupt`` if a file is missing or has not its known digest."""
    for name in _differing(root, sha256=sha256):
        found = sha256_file(root / name)[:12] if (root / name).is_file() else "missing"
        raise StoreCorrupt(f"{root / name} is {found}, expected sha256 {sha256[name][:12]}; install the model again")


def _differing(root: Path, *, sha256: Mapping[str, str]) -> list[str]:
    """Names of the files that are missing or differ."""
    return [name for name, known in sha256.items() if not (root / name).is_file() or sha256_file(root / name) != known]


def _settings(path: Path, *, kind: type = dict) -> Any:
    """Content of a JSON file that holds an object, or a list; a missing file has no settings."""
    try:
        settings = read_json(path) if path.is_file() else kind()
    except ValueError as error:
        raise StoreCorrupt(f"{path} is not valid JSON; fetch the model again") from error
    if not isinstance(settings, kind):
        wanted = "object" if kind is dict else "list"
        raise StoreCorrupt(
            f"{path} must hold a JSON {wanted}, it holds a {type(settings).__name__}; fetch the model again"
        )
    return settings


def _modules(root: Path) -> list[tuple[str, str]]:
    """Class and folder of each module of a sentence-transformers model; empty for a bare folder."""
    listed = _settings(root / _MODULES, kind=list)
    if not all(isinstance(module, dict) and {"type", "path"} <= module.keys() for module in listed):
        raise StoreCorrupt(f"{root / _MODULES} must list modules with type and path; fetch the model again")
    modules = [(str(module["type"]), str(module["path"])) for module in listed]
    outside = next((path for _, path in modules if path not in ("", ".") and not is_plain_path(path)), None)
    if outside:
        raise StoreCorrupt(f"{root / _MODULES} names {outside[:80]!r}, which is no folder of the model; do not use it")
    return modules


def _modules_digest(root: Path, transformer: Path, folders: Sequence[Path]) -> str:
    """Digest of the settings of a sentence-transformers model and of the files of all modules but the transformer."""
    if not folders:
        return ""
    others = [folder for folder in dict.fromkeys(folders) if folder not in (root, transformer)]
    for folder in others:
        activation = str(_settings(folder / "config.json").get("activation_function", "torch."))
        if not activation.startswith("torch."):  # the library would use another one in its place
            raise EncoderFailed(f"{folder} computes by {activation[:80]!r}, only activations of torch are supported")
    settings = [
        root / _MODULES,
        root / "config_sentence_transformers.json",
        *transformer.glob("sentence_*_config.json"),
    ]
    files = {*settings, *(file for folder in others for file in folder.rglob("*"))}
    lines = sorted(f"{file.relative_to(root).as_posix()}:{sha256_file(file)}\n" for file in files if file.is_file())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def smallest_limit(*stated: object) -> int:
    """Smallest number of tokens that is stated; 0 if none is."""
    return min((int(limit) for limit in stated if isinstance(limit, int | float) and 0 < limit < _LONGEST), default=0)


def _positions(config: Mapping[str, object]) -> int:
    """Usable rows of the position table; 0 if the model has none."""
    rows = config.get("max_position_embeddings")
    if not isinstance(rows, int):
        return 0
    padding = config.get("pad_token_id")
    if config.get("model_type") in _OFFSET_POSITIONS:
        return rows - 1 - (padding if isinstance(padding, int) else 1)
    return rows


def _own_classes(
    config: Mapping[str, object], tokenizer: Mapping[str, object], modules: Collection[str]
) -> dict[str, str]:
    """Classes that ``auto_map`` and modules.json name outside the libraries; of two tokenizers the fast one."""
    named, tokenizers = config.get("auto_map"), tokenizer.get("auto_map")
    found = dict(named) if isinstance(named, dict) else {}
    classes = {part: found[part] for part in ("AutoConfig", "AutoModel") if part in found}
    if isinstance(tokenizers, dict):
        tokenizers = tokenizers.get("AutoTokenizer")
    if isinstance(tokenizers, list):
        tokenizers = next((name for name in reversed(tokenizers) if name), None)
    classes["AutoTokenizer"] = tokenizers
    classes |= {name: name for name in modules if not name.startswith(_LIBRARY)}
    return {part: name for part, name in classes.items() if isinstance(name, str)}


def _weights(path: Path) -> list[Path]:
    """Files of the weights: safetensors if there are any, else PyTorch's."""
    for stem in ("model.safetensors", "pytorch_model.bin"):
        if (path / stem).is_file():
            return [path / stem]
        if (path / f"{stem}.index.json").is_file():
            shards = _settings(path / f"{stem}.index.json").get("weight_map")
            names = sorted(set(shards.values())) if isinstance(shards, dict) else []
            if names and all((path / name).is_file() for name in names):
                return [path / name for name in names]
    raise NotAvailable(
        f"{path} has no complete weights (model.safetensors or pytorch_model.bin); fetch the model again"
    )


def _tokenizer(path: Path) -> list[Path]:
    """Files that decide the tokens; tokenizer_config.json counts only where there is no tokenizer.json."""
    if (path / "tokenizer.json").is_file():
        return [path / "tokenizer.json"]
    vocabularies = [path / name for name in _VOCABULARIES if (path / name).is_file()]
    if not vocabularies:
        raise NotAvailable(f"{path} has no tokenizer.json and no vocabulary; fetch the model again")
    settings = path / "tokenizer_config.json"
    return [*vocabularies, *([settings] if settings.is_file() else [])]


def _digest(paths: Sequence[Path]) -> str:
    """Digest of one file, or of the names and digests of several."""
    if len(paths) == 1:
        return sha256_file(paths[0])
    lines = "".join(f"{path.name}:{sha256_file(path)}\n" for path in paths)
    return hashlib.sha256(lines.encode()).hexdigest()


MODELS_VARIABLE = "GENEKB_MODELS"  # environment variable: folders that hold model folders, separated as in PATH

_CONFIGURATION = ("*.json", "*.txt", "*.model")  # tokenizer, model and pooling settings, vocabularies
_CODE = "*.py"
_MODULE_FILES = "[0-9]*_*/*"  # of the modules behind the transformer
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


def find_place(model_id: str, *, entry: ModelEntry | None) -> Place | None:
    """Folder on this machine that is preferred for a model, as the registry pins it; None if there is none."""
    return next(places(model_id, entry=entry, revisions=(entry.revision, "") if entry else ("",)), None)


def download(model_id: str, *, revision: str, with_code: bool = False) -> Place:
    """Download a model from the Hub into its cache; safetensors where the model has them.

    ``revision``: commit, or empty for the main branch. ``with_code``: its Python files too, none of which is run here.
    Raises ``NotAvailable`` if the Hub cannot be reached, or does not give the model.
    """
    require("huggingface_hub", needed_by=f"a download of {_shown(model_id)} needs")
    from huggingface_hub import HfApi

    with hub_errors(_shown(model_id)):
        files = HfApi().list_repo_files(model_id, revision=revision or None)
    weights = _SAFETENSORS if any(Path(file).match(_SAFETENSORS) for file in files) else _TORCH_WEIGHTS
    code = [_CODE] if with_code else []
    return _fetch(model_id, revision=revision, patterns=[*_CONFIGURATION, weights, _MODULE_FILES, *code])


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
    return Place(where="cached", path=Path(path), revision=Path(path).name)  # which the cache names by the commit


def _shown(repository: str) -> str:
    return f"the Hugging Face model {repository!r}"


def _cached(model_id: str, *, revision: str) -> Place | None:
    """Find a snapshot, perhaps not a complete one, in the hub's cache, without a network."""
    if find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        # No pattern, so no file, is asked for: else a snapshot of which `download` fetched a part would be refused.
        found = snapshot_download(model_id, revision=revision or None, local_files_only=True, allow_patterns=[])
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return Place(where="cached", path=Path(found), revision=Path(found).name)


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


_BETWEEN: Final = "--"  # a repository and a class in it, as transformers writes them
# What code that others wrote for another version of transformers may well raise.
CODE_FAULTS: Final = (
    ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError, NameError, OSError,
    RuntimeError, SyntaxError, TypeError, ValueError,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnCode:
    """The Python files of a model, of its folder and of the repositories that it names."""

    files: Mapping[str, bytes]  # content by ``module.py`` or ``owner/name--module.py``

    @property
    def sha256(self) -> str:
        """Digest of the names and digests of the files."""
        lines = (f"{name}:{hashlib.sha256(self.files[name]).hexdigest()}\n" for name in sorted(self.files))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def view(self, folder: ModelFolder) -> ModelFolder:
        """Make a folder of links to the model's files, with these bytes as its code, under a name made of their digest.

        The libraries find code by the name of a folder, keep copies of it between runs, and fetch that of other
        repositories themselves: in such a folder they run what was hashed, and nothing else.
        """
        scratch = Path(tempfile.mkdtemp(prefix="genekb-code-"))
        atexit.register(shutil.rmtree, scratch, ignore_errors=True)
        root = scratch / f"genekb_{self.sha256[:16]}"
        path = root / folder.path.relative_to(folder.root)
        for original, copy in {folder.root: root, folder.path: path}.items():
            copy.mkdir(parents=True, exist_ok=True)
            for file in original.iterdir():
                if file.suffix != ".py" and file != folder.path:
                    (copy / file.name).symlink_to(file.resolve())
            for label, content in self.files.items():
                (copy / label.rpartition(_BETWEEN)[2]).write_bytes(content)
        for name in ("config.json", "tokenizer_config.json"):
            if (path / name).is_file():
                settings = (path / name).read_text(encoding="utf-8")
                for reference in folder.own_classes.values():
                    settings = settings.replace(f'"{reference}"', f'"{reference.rpartition(_BETWEEN)[2]}"')
                (path / name).unlink()
                (path / name).write_text(settings, encoding="utf-8")
        return replace(folder, root=root, path=path)


def find_code(folder: ModelFolder, *, place: Place, model_id: str, online: bool = False) -> OwnCode:
    """Read the Python files of a model's folder and of the repositories that it names; none is run.

    ``place``, ``model_id``: where the model is, and its repository at the hub. Raises ``NotAvailable`` if a file is
    missing; ``EncoderFailed`` if a class is named in a way that transformers does not know.
    """
    files: dict[str, bytes] = {}
    wanted: dict[str, set[str]] = {}
    for reference in folder.own_classes.values():
        repository, module, _ = _split(reference)
        wanted.setdefault(repository, set()).add(f"{module}.py")
    for repository, names in wanted.items():
        path: Path | None = folder.path
        if repository:
            path = code_folder(repository, files=names, revision="", online=online)
        elif place.where == "cached" and online:
            path = code_folder(model_id, files=names, revision=place.revision, online=True)
        missing = sorted(name for name in names if path is None or not (path / name).is_file())
        if path is None or missing:
            raise NotAvailable(_how_to_get(", ".join(missing), repository, folder))
        label = f"{repository}{_BETWEEN}" if repository else ""
        files |= {f"{label}{file.name}": file.read_bytes() for file in path.glob("*.py") if file.is_file()}
    return OwnCode(files=files)


def code_hint(folder: ModelFolder) -> str:
    """Hint where the code of a model is, and what lets it run."""
    others = sorted({repository for repository, *_ in map(_split, folder.own_classes.values()) if repository})
    where = " and of ".join([str(folder.path), *others])
    return (
        "it brings Python code of its own, which is run only with trust_remote_code=True; "
        f"read the .py files of {where} first, they can do all that you can"
    )


def first_line(error: Exception) -> str:
    """Kind and first line of an error of others' code."""
    line = str(error).strip().partition("\n")[0][:200]
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _how_to_get(files: str, repository: str, folder: ModelFolder) -> str:
    """Hint how to get Python files that are not on this machine."""
    online = "`genekb encode` with online=True and trust_remote_code=True fetches what the hub has"
    if not repository:
        return f"{folder.path} lacks {files}, which the model needs; {online}, or put the files there"
    return (
        f"{files} of {repository}, which the model needs, is not on this machine; {online}, or put the files into "
        f"{folder.path} and take '{repository}{_BETWEEN}' out of its auto_map"
    )


def _split(reference: str) -> tuple[str, str, str]:
    """Repository (empty for the model's own folder), module and class."""
    repository, _, target = reference.rpartition(_BETWEEN)
    module, _, name = target.rpartition(".")
    is_known = module.isidentifier() and name.isidentifier()
    if not is_known or (repository and not (is_plain_path(repository) and repository.count("/") == 1)):
        raise EncoderFailed(f"auto_map names {reference[:80]!r}, which is not module.Class or owner/name--module.Class")
    return repository, module, name
