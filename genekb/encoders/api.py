"""Encoders behind an embeddings API: batches of texts, and the probe that shows whether a vendor changed the model.

The vendor's tokenizer is not on disk, so tokens are estimated from above as one for every three bytes of UTF-8. English
prose has four to five bytes a token; short stretches of symbols and digits may have fewer than three, whole texts of
genes do not. Should one exceed the model's limit nevertheless, the vendor refuses it and the error says so.

A fixed set of texts is encoded with the first vectors and kept beside them; reopening encodes them again and compares.
"""

import base64
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from importlib import resources
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import Float32

from genekb.core.addresses import is_web_address
from genekb.core.errors import EncoderFailed, NotAvailable, StoreCorrupt
from genekb.encoders.base import EncoderSpec, TextEncoder, VectorsAndTokens, unit_rows
from genekb.encoders.kinds import ModelEntry
from genekb.encoders.local.encoder import Cut, cut_to_tokens
from genekb.files.atomic import canonical_json, write_text
from genekb.files.limits import read_json
from genekb.net.client import is_busy
from genekb.net.retry import RetryPolicy, TryAgain, retry_after_s

if TYPE_CHECKING:
    import httpx

OPENAI_URL: Final = "https://api.openai.com/v1"
KEY_VARIABLE: Final = "OPENAI_API_KEY"
URL_VARIABLE: Final = "OPENAI_BASE_URL"
BYTES_PER_TOKEN: Final = 3
MAX_TEXTS: Final = 2048  # the protocol takes no more in one request, and 300,000 tokens
MAX_TOKENS: Final = 200_000  # that one request holds, by the estimate
SHORTER: Final = "text-embedding-3"  # models whose vectors may be asked for with fewer dimensions
DOLLARS_PER_MILLION: Final[Mapping[str, float]] = {
    "text-embedding-ada-002": 0.10,
    "text-embedding-3-small": 0.02,
    "text-embedding-3-large": 0.13,
}
PRICES_NOTED: Final = "2026-05"  # month of the list prices above

_NO_MONEY: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})  # sent as 429; no wait mends it
_NOT_FOR_YOU: Final = {
    401: f"check {KEY_VARIABLE}",
    403: f"check {KEY_VARIABLE}",
    404: f"check the model's name and {URL_VARIABLE}",
    429: "check the account's plan and billing",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiConfig:
    """How an endpoint that speaks OpenAI's embeddings protocol is asked; none of it is part of a recipe but the host.

    The key is not here: it is read from ``OPENAI_API_KEY`` when a request is made, and kept nowhere. A server that
    needs none takes any value. ``ValueError`` if a value lies outside its range.
    """

    base_url: str = OPENAI_URL  # in front of ``/embeddings``, without user, password and query
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        is_plain = not (parts.username or parts.password or parts.query or parts.fragment)
        if not is_plain or not is_web_address(self.base_url):
            raise ValueError("base_url must be http(s)://host[:port][/path] without user, password, query and fragment")

    @classmethod
    def from_environment(cls, base_url: str | None = None) -> Self:
        """Take the address given, else ``OPENAI_BASE_URL``, else OpenAI's own; ``NotAvailable`` if it is none."""
        try:
            return cls(base_url=base_url or os.environ.get(URL_VARIABLE) or OPENAI_URL)
        except ValueError as error:
            raise NotAvailable(f"{error}; give `base_url` or {URL_VARIABLE} so, the key in {KEY_VARIABLE}") from None

    @property
    def host(self) -> str:
        """Host and, where it is given, port."""
        return urlsplit(self.base_url).netloc.lower()


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceEstimate:
    """What encoding some texts costs at most, by the list price; no dollars where the price of a model is not known."""

    n_texts: int
    n_tokens_at_most: int
    dollars_at_most: float | None


def estimate_price(texts: Sequence[str], *, model_id: str) -> PriceEstimate:
    """Estimate from above what encoding texts costs, by the list prices of :data:`PRICES_NOTED`; nothing is sent."""
    n_tokens = sum(map(_estimate_tokens, texts))
    price = DOLLARS_PER_MILLION.get(model_id)
    dollars = None if price is None else n_tokens * price / 1_000_000
    return PriceEstimate(n_texts=len(texts), n_tokens_at_most=n_tokens, dollars_at_most=dollars)


def cut_by_estimate(text: str, *, limit: int) -> Cut:
    """Keep the whole sentences of a text that fit into `limit` estimated tokens; 0 keeps all."""
    n_tokens = _estimate_tokens(text)
    if limit == 0 or n_tokens <= limit:
        return Cut(text=text, n_tokens=n_tokens, n_tokens_cut=0)
    n_bytes = list(accumulate(len(character.encode()) for character in text))
    starts = np.arange(n_tokens) * BYTES_PER_TOKEN
    ends = np.searchsorted(n_bytes, starts, side="right") + 1  # a token ends with the character in which it begins
    return cut_to_tokens(text, token_ends=ends.tolist(), limit=limit)


def embed(
    texts: Sequence[str], *, model_id: str, dim: int, config: ApiConfig, progress: Callable[[int], None] | None = None
) -> Float32[np.ndarray, "text dim"]:
    """Ask the endpoint for vectors, row *i* of text *i*, in as few requests as the protocol allows.

    ``dim``: length that vectors must have; 0 takes what the endpoint gives. ``progress``: called after each request
    with the number of its texts. Raises ``NotAvailable`` if there is no key, the endpoint refuses it or the model, or
    does not answer; ``EncoderFailed`` if it refuses the texts, or does not give one vector of the length a text.
    """
    import httpx

    key = _read_key()
    body: dict[str, Any] = {"model": model_id, "encoding_format": "base64"}
    if dim and model_id.startswith(SHORTER):
        body |= {"dimensions": dim}
    parts: list[np.ndarray] = []
    with httpx.Client(timeout=config.retry.timeout_s, headers={"Authorization": f"Bearer {key}"}) as client:
        for batch in pack(texts):
            request = partial(_send, client, body | {"input": batch}, config=config, key=key)
            answer = config.retry.call(request, failure=f"{config.host} gave no vectors", hint="try again later")
            parts.append(_read(answer, n_texts=len(batch), dim=dim, config=config))
            dim = parts[-1].shape[1]
            if progress:
                progress(len(parts[-1]))
    return np.concatenate(parts) if parts else np.empty((0, dim), dtype=np.float32)


def _estimate_tokens(text: str) -> int:
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def pack(texts: Sequence[str], *, max_tokens: int = MAX_TOKENS, max_texts: int = MAX_TEXTS) -> list[list[str]]:
    """Split texts, in their order, into as few batches as that order allows."""
    batches: list[list[str]] = []
    held = max_tokens
    for position, text in enumerate(texts):
        n_tokens = _estimate_tokens(text)
        if n_tokens > max_tokens:
            raise EncoderFailed(
                f"text {position} has up to {n_tokens} tokens, a request takes {max_tokens}; shorten it"
            )
        if held + n_tokens > max_tokens or len(batches[-1]) == max_texts:
            batches.append([])
            held = 0
        batches[-1].append(text)
        held += n_tokens
    return batches


def _read_key() -> str:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        raise NotAvailable(f"an embeddings API needs a key: set {KEY_VARIABLE} (any value if your server wants none)")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise NotAvailable(f"{KEY_VARIABLE} holds blanks or characters that no key has; set it again")
    return key


def _send(client: "httpx.Client", body: Mapping[str, Any], *, config: ApiConfig, key: str) -> "httpx.Response":
    import httpx

    try:
        response = client.post(f"{config.base_url.rstrip('/')}/embeddings", json=body)
    except httpx.RequestError as error:
        raise TryAgain(type(error).__name__) from error
    status = response.status_code
    if status == HTTPStatus.OK:
        return response
    code, message = _vendor_error(response, key=key)
    reason = f"status {status}" + "".join(f", {part}" for part in (code, message) if part)
    if (is_busy(status) or status == HTTPStatus.CONFLICT) and code not in _NO_MONEY:
        raise TryAgain(reason, wait_s=retry_after_s(response.headers.get("Retry-After", "")))
    if status in _NOT_FOR_YOU or status < HTTPStatus.BAD_REQUEST:  # redirects are not followed: the key stays here
        hint = _NOT_FOR_YOU.get(status, f"check {URL_VARIABLE}")
        raise NotAvailable(f"{config.host} refused model {body['model']!r}: {reason}; {hint}")
    raise EncoderFailed(f"{config.host} refused {len(body['input'])} texts for {body['model']!r}: {reason}")


def _vendor_error(response: "httpx.Response", *, key: str) -> tuple[str, str]:
    """Code and message of a refusal, without the key; empty if the body has another form."""
    try:
        content = response.json()
    except ValueError:
        content = {}
    error = content.get("error", content) if isinstance(content, dict) else {}
    fields = error if isinstance(error, dict) else {"message": error}
    return _redact(str(fields.get("code") or ""), key=key), _redact(str(fields.get("message") or ""), key=key)


def _redact(message: str, *, key: str) -> str:
    """One short line without the key, pieces of it, and whatever looks like a key."""
    line = "".join(character if character.isprintable() else " " for character in message).replace(key, "[key]")
    line = re.sub(r"(?i)\bbearer\s+\S+|\bsk-\S+", "[key]", line)
    pieces = {key[start : start + 8] for start in range(len(key) - 7)}
    return " ".join("[key]" if any(piece in word for piece in pieces) else word for word in line.split())[:200]


def _read(response: "httpx.Response", *, n_texts: int, dim: int, config: ApiConfig) -> Float32[np.ndarray, "text dim"]:
    """Vectors of an answer in the order of the texts that were asked for; their number is checked."""
    try:
        items = response.json()["data"]
        found = {int(item["index"]): _vector(item["embedding"]) for item in items}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EncoderFailed(
            f"{config.host} answered in another form than OpenAI's ({type(error).__name__}); is the address right?"
        ) from error
    if len(items) != n_texts or found.keys() != set(range(n_texts)):
        raise EncoderFailed(
            f"{config.host} was asked for {n_texts} vectors and gave {len(items)} for {len(found)} texts"
        )
    vectors = [found[position] for position in range(n_texts)]
    wanted = dim or len(vectors[0])
    if odd := {len(vector) for vector in vectors} - {wanted}:
        raise EncoderFailed(f"{config.host} gave a vector of {min(odd)} dims, {wanted} are expected")
    return np.stack(vectors)


def _vector(value: str | list[float]) -> Float32[np.ndarray, " dim"]:
    """One vector, sent as base64 of little-endian float32 or as numbers."""
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4").astype(np.float32)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is refused
        vector = np.asarray(value, dtype=np.float32)
    if vector.ndim != 1:
        raise ValueError(f"a vector has {vector.ndim} axes")
    return vector


PROBE: Final = "probe.json"
MIN_COSINE: Final = 0.999
_DECIMALS: Final = 6
# Probes that are stored were made from these texts: another set would make every one of them useless.
PROBE_TEXTS: Final = resources.files("genekb.encoders").joinpath("probe.txt").read_text(encoding="utf-8").splitlines()


@dataclass(frozen=True, kw_only=True, eq=False)
class ApiEncoder(TextEncoder):
    """A model behind an embeddings API; equal texts get nearly, not always exactly, equal vectors."""

    spec: EncoderSpec
    config: ApiConfig
    probe: Mapping[str, Any] = field(repr=False)  # date, model, host, and the vectors of :data:`PROBE_TEXTS`

    def _encode(self, texts: Sequence[str], progress: Callable[[int], None]) -> VectorsAndTokens:
        cuts, spec = [cut_by_estimate(text, limit=self.spec.max_tokens) for text in texts], self.spec
        kept = [cut.text for cut in cuts]
        vectors = embed(kept, model_id=spec.model_id, dim=spec.dim, config=self.config, progress=progress)
        return vectors, [cut.n_tokens for cut in cuts], [cut.n_tokens_cut for cut in cuts]

    def save(self, folder: Path) -> None:
        """Write the probe, where none is; ``StoreCorrupt`` if the model has changed since the one in `folder`."""
        if (folder / PROBE).is_file():
            stored = _read_probe(folder, model_id=self.spec.model_id, host=self.spec.revision)
            _check_unchanged(np.asarray(self.probe["vectors"]), stored)
        else:
            write_text(canonical_json(self.probe) + "\n", folder / PROBE)


def load_api(model: ModelEntry | EncoderSpec, *, config: ApiConfig, probe_folder: Path | None = None) -> ApiEncoder:
    """Open an encoder behind an API, which encodes the texts of the probe.

    ``model``: our name and the vendor's; where ``dim`` is 0, that of the endpoint is taken.
    ``probe_folder``: holds the probe of stored vectors, to be compared; None makes a new one. Raises ``NotAvailable``
    if there is no key or answer, or the probe is missing; ``StoreCorrupt`` if the probe is damaged or of another model,
    or the model has changed; ``EncoderFailed`` if the response is malformed.
    """
    model_id = model.model_id
    stored = None if probe_folder is None else _read_probe(probe_folder, model_id=model_id, host=config.host)
    vectors = unit_rows(embed(PROBE_TEXTS, model_id=model_id, dim=model.dim, config=config), encoder=model_id)
    if stored is None:
        rounded = vectors.astype(np.float64).round(_DECIMALS).tolist()
        date = datetime.now(UTC).date().isoformat()
        stored = {"date": date, "model": model_id, "host": config.host, "vectors": rounded}
    else:
        _check_unchanged(vectors, stored)
    spec = EncoderSpec(
        name=model.name,
        kind="api",
        model_id=model_id,
        revision=config.host,
        max_tokens=model.max_tokens,
        dim=vectors.shape[1],
    )
    return ApiEncoder(spec=spec, config=config, probe=stored)


def _read_probe(folder: Path, *, model_id: str, host: str) -> dict[str, Any]:
    """Read a stored probe; before anything is sent it must be of this model and endpoint."""
    path = folder / PROBE
    if not path.is_file():
        raise NotAvailable(f"{path} is missing, so {model_id!r} cannot be checked for changes; encode again")
    try:
        stored = read_json(path)
        vectors = np.asarray(stored["vectors"], dtype=np.float64)
        made_with = (str(stored["model"]), str(stored["host"]), str(stored["date"]))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreCorrupt(f"{path} is damaged ({type(error).__name__}); encode again under another store") from error
    lengths = np.linalg.norm(vectors, axis=-1)
    if lengths.shape != (len(PROBE_TEXTS),) or not (np.isfinite(lengths) & (lengths > 0)).all():
        raise StoreCorrupt(f"{path} does not hold {len(PROBE_TEXTS)} vectors; encode again under another store")
    if made_with[:2] != (model_id, host):
        raise StoreCorrupt(
            f"{path} was made with {made_with[0]!r} at {made_with[1]}, asked for is {model_id!r} at {host}; "
            "give that endpoint as `base_url` or OPENAI_BASE_URL"
        )
    return {"date": made_with[2], "model": model_id, "host": host, "vectors": vectors.tolist()}


def _check_unchanged(vectors: np.ndarray, stored: Mapping[str, Any]) -> None:
    known, made = np.asarray(stored["vectors"]), f"model {stored['model']!r}"
    if known.shape != vectors.shape:
        raise StoreCorrupt(
            f"{made} gives {vectors.shape[1]} dims, on {stored['date']} it gave {known.shape[1]}; "
            "encode again under another store"
        )
    cosines = (known * vectors).sum(axis=1) / np.linalg.norm(known, axis=1)
    lowest = float(cosines.min())
    if not lowest >= MIN_COSINE:
        raise StoreCorrupt(
            f"the vendor's {made} has changed since {stored['date']} (lowest cosine {lowest:.4f}, "
            f"{MIN_COSINE} is needed); encode again under another store"
        )
