"""Open the encoder that made stored vectors again, for a query or new texts, and check that it is the same."""

from pathlib import Path

from genekb.core.errors import NotAvailable, StoreCorrupt
from genekb.core.plugins import require
from genekb.encoders.base import Encoder, EncoderSpec
from genekb.encoders.kinds import KINDS, ModelEntry, find_entry
from genekb.encoders.local.encoder import Compute, open_transformer, start_transformer
from genekb.encoders.local.files import ModelFolder, Place, config_mark, has_files, places, read_folder
from genekb.encoders.local.remote_code import code_hint, find_code
from genekb.encoders.local.static import load_static
from genekb.encoders.registry import how_to_get, load_encoder, plugins, require_library


def reopen_encoder(
    spec: EncoderSpec,
    folder: Path,
    *,
    device: str = "auto",
    threads: int | None = None,
    hint: Path | None = None,
    base_url: str | None = None,
    trust_remote_code: bool = False,
) -> Encoder:
    """Open the encoder that made stored vectors and check that it is the same.

    ``folder``: holds the vectors and a fitted state. ``hint``: local folder from which the model was loaded before. The
    rest: see :func:`genekb.encoders.load_encoder`. Raises ``NotAvailable`` if its weights are not on this machine, or
    it needs code of its own that is not allowed to run; ``StoreCorrupt`` if weights, code or a vendor's model have
    changed.
    """
    if spec.kind in {"transformer", "static"}:
        compute = Compute(device=device, dtype=spec.dtype, threads=threads)
        return _reopen_files(spec, compute=compute, hint=hint, trust_remote_code=trust_remote_code)
    if spec.kind == "api":
        from genekb.encoders.api import ApiConfig, load_api

        return load_api(spec, config=ApiConfig.from_environment(base_url=base_url), probe_folder=folder)
    if spec.family.is_imported:
        how = "was imported as vectors of genes; it" if spec.kind == "foreign" else "is made of vectors of genes; it"
        raise NotAvailable(f"{spec.encoder_id} {how} has no encoder that reads a text, which a query and `encode` need")
    if spec.kind == "wcp":
        require("sklearn", needed_by=f"encoder {spec.name!r} needs")
        from genekb.encoders.wcp.encoder import reopen_wcp

        return reopen_wcp(spec, folder)
    if spec.kind not in KINDS:
        raise NotAvailable(
            f"{spec.encoder_id} was made by an encoder of kind {spec.kind!r}, which genekb no longer has; its vectors "
            "can be used, a query needs another encoder: add one by `genekb encode`"
        )
    if spec.kind == "plugin" and spec.name not in plugins():
        raise NotAvailable(
            f"{spec.encoder_id} was made by a plug-in of {spec.model_id or 'another package'}, which is not installed "
            f"here; install the package that offers encoder {spec.name!r}"
        )
    encoder = load_encoder(spec.name)
    if encoder.spec != spec:
        raise NotAvailable(
            f"encoder {spec.encoder_id} is version {spec.revision}, this genekb has {encoder.spec.revision}; "
            "build the vectors again"
        )
    return encoder


def _reopen_files(spec: EncoderSpec, *, compute: Compute, hint: Path | None, trust_remote_code: bool) -> Encoder:
    entry = find_entry(spec.model_id)
    require_library(spec.name, entry)
    found = list(places(spec.model_id, entry=entry, revisions=(spec.revision, ""), hint=hint))
    if not found:
        raise NotAvailable(how_to_get(spec.name, spec.model_id, entry))
    for place in found:
        if encoder := _reopen_at(place, spec, entry=entry, compute=compute, trust_remote_code=trust_remote_code):
            return encoder
    code_too = " or Python code" if spec.code_sha256 else ""
    raise StoreCorrupt(
        f"{found[0].path} holds other weights or another tokenizer or configuration{code_too} than {spec.encoder_id} "
        "was made with; install that revision, or build the vectors again"
    )


def _reopen_at(
    place: Place, spec: EncoderSpec, *, entry: ModelEntry | None, compute: Compute, trust_remote_code: bool
) -> Encoder | None:
    """Open the model in a folder; None if it is not that of the recipe."""
    if spec.kind == "static":
        static = load_static(
            place.path, name=spec.name, model_id=spec.model_id, revision=spec.revision, prompt=spec.prompt, dim=spec.dim
        )
        return static if static.spec == spec else None
    folder = read_folder(place.path)
    if not _is_made_from(spec, folder, entry):
        return None
    if spec.code_sha256 and not trust_remote_code:
        raise NotAvailable(f"{spec.encoder_id} cannot be opened: {code_hint(folder)}")
    code = find_code(folder, place=place, model_id=spec.model_id) if spec.code_sha256 else None
    if code and code.sha256 != spec.code_sha256:
        return None
    opened = open_transformer(folder, name=spec.name, pooling=spec.pooling, compute=compute, code=code)
    is_same = (opened.pooling, opened.modules_sha256) == (spec.pooling, spec.modules_sha256)
    return start_transformer(opened, spec=spec, threads=compute.threads) if is_same else None


def _is_made_from(spec: EncoderSpec, model: ModelFolder, entry: ModelEntry | None) -> bool:
    """Whether a folder has the files of a recipe; a hub's commit already identifies its configuration."""
    same_bytes = (model.weights_sha256, model.tokenizer_sha256) == (spec.weights_sha256, spec.tokenizer_sha256)
    same_config = not spec.revision.startswith("config-") or spec.revision == config_mark(model)
    pinned = entry.sha256 if entry and spec.revision == entry.revision else {}
    return same_bytes and same_config and (not pinned or has_files(model.path, sha256=pinned))
