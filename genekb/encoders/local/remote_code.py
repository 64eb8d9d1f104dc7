"""Python code of a model: found and hashed here; sentence-transformers runs it, only on request."""

import atexit
import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from genekb.core.errors import EncoderFailed, NotAvailable
from genekb.encoders.local.files import ModelFolder, Place, code_folder
from genekb.files.atomic import is_plain_path

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
