"""Pull a store: its manifest first, then the files that it promises, each with those bytes, then one rename."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import disk_usage, rmtree
from typing import Final

from genekb.core.errors import NotAvailable, StoreCorrupt
from genekb.core.messages import Names, several
from genekb.core.python import for_python
from genekb.files.atomic import TEMPORARY, user_path, write_text
from genekb.net.client import Absent
from genekb.net.download import size_on_disk
from genekb.net.retry import RetryPolicy
from genekb.share.catalog import address_of, find_catalog, find_listed, read_catalog
from genekb.share.remotes import Address, is_address, parse_address
from genekb.share.signing import SIGNATURE_LIMIT, check_signature
from genekb.share.transfer import Artifact, RemoteVersion, Transfer, open_version, read_remote_file
from genekb.store.files import Origin, absent_encoders, file_fault, note_origin
from genekb.store.home import CURRENT, check_name, current_folder, find_home
from genekb.store.manifest import MANIFEST, SIGNATURE, Manifest, StoredFile, is_of, parse_manifest
from genekb.store.reader import Store
from genekb.store.writer import locked, make_current, writing_to

log = logging.getLogger(__name__)
PULLING: Final = ".pulling-"
_DIGITS: Final = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class PullConfig:
    """What is pulled, and how."""

    encoders: tuple[str, ...] = ()  # ids or names of the encoders to bring; all that are shared if empty
    digest: str = ""  # that the store must have; any if empty
    public_key: str = ""  # that must have signed the manifest, or its file; no signature is asked for if empty
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@for_python
def pull(
    url: str,
    *,
    encoder: Names | None = None,
    digest: str | None = None,
    public_key: str | None = None,
    catalog: str | None = None,
    jobs: int = 4,
    timeout_s: float = 60.0,
    home: str | Path | None = None,
) -> Store:
    """Bring a shared store to this machine, as `genekb pull` does, every byte checked; it is opened then.

    Parameters
    ----------
    url
        Address: folder, web server, s3:// or hf://, with @DIGEST or @REVISION to pin it; or a catalog's name.
    encoder
        This encoder alone; all that are shared if None; one or several.
    digest
        Digest, or its first digits, that the store must have.
    public_key
        minisign key, or its file, that must have signed the store.
    catalog
        Catalog, a path or an address; else GENEKB_CATALOG, else catalog.toml of the home.
    jobs
        Parallel transfers.
    timeout_s
        Longest silence of the server, in seconds.
    home
        Artifact home; else GENEKB_HOME, else the user's data folder.

    Examples
    --------
    >>> import genekb as gk
    >>> _ = gk.push("demo", "shared/demo")
    >>> gk.pull("shared/demo", home="home-of-a-colleague").manifest.full_name
    'demo@1'
    """
    pulled = pull_named(
        url, encoder=encoder, digest=digest, public_key=public_key, catalog=catalog, jobs=jobs, timeout_s=timeout_s,
        home=user_path(home),
    )  # fmt: skip
    return Store(pulled.path)


def pull_named(
    url: str,
    *,
    encoder: Names | None,
    digest: str | None,
    public_key: str | None,
    catalog: str | None,
    jobs: int,
    timeout_s: float,
    home: Path | None,
) -> Transfer:
    """Bring a store by its address or its name in a catalog, see :func:`pull`."""
    if is_address(url) or "/" in url or Path(url).expanduser().exists():
        address = parse_address(url)
    else:
        listed = find_listed(read_catalog(find_catalog(catalog, home)), url)
        address, digest = address_of(listed), digest or listed.digest
    retry = RetryPolicy(n_jobs=jobs, timeout_s=timeout_s)
    config = PullConfig(encoders=tuple(several(encoder)), digest=digest or "", public_key=public_key or "", retry=retry)
    pulled = pull_store(address, config, home=home)
    if pulled.replaced:
        log.info("%s named %s before; that store is kept, by digest", pulled.name, pulled.replaced[:16])
    if pulled.left:
        log.info("left where they are: %s", ", ".join(pulled.left))
    return pulled


def pull_store(address: Address, config: PullConfig | None = None, *, home: Path | None = None) -> Transfer:
    """Bring a store to a home, or go on with a pull that was interrupted; ``StoreCorrupt`` if it is not as promised."""
    config = config or PullConfig()
    with open_version(address, head=MANIFEST, retry=config.retry) as version:
        return _Pull(version=version, config=config).run(find_home(home) / "stores")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pull:
    """One pull of a version."""

    version: RemoteVersion
    config: PullConfig

    def run(self, stores: Path) -> Transfer:
        """Check what is promised before anything visible is written; see :func:`pull_store`."""
        manifest, signature, signed = self._promise()
        name_folder = stores / manifest.full_name
        with writing_to(name_folder), locked(name_folder):
            before = current_folder(name_folder)
            target = name_folder / manifest.digest
            staging = name_folder / f"{PULLING}{manifest.digest[:_DIGITS]}"
            shared, n_bytes = self._fetch(manifest, staging, target)
            origin = Origin(url=self.version.remote.name, encoders=tuple(sorted(shared)))
            is_here = (target / MANIFEST).is_file()
            if is_here:
                _mend(staging, target)
            note_origin(target, origin)  # before the store is seen: what was not pulled must never look lost
            if not is_here:
                staging.mkdir(exist_ok=True)
                write_text(self.version.head.decode("utf-8"), staging / MANIFEST)
            folder = target if is_here else staging
            if signature is not None and (folder / MANIFEST).read_bytes() == self.version.head:
                (folder / SIGNATURE).write_bytes(signature)
            if is_here:
                write_text(manifest.digest + "\n", name_folder / CURRENT)
            else:
                make_current(staging, manifest.digest)
        replaced = before.name if before is not None and before.name != manifest.digest else ""
        artifact = Artifact(
            name=manifest.full_name,
            digest=manifest.digest,
            folder=target,
            files=files_with(manifest, shared),
            heads=(),
            left=tuple(key for key in manifest.encoders if key not in shared),
        )
        return artifact.transfer(self.version.remote.name, n_bytes_now=n_bytes, replaced=replaced, signed=signed)

    def _promise(self) -> tuple[Manifest, bytes | None, str]:
        """Read the manifest by the rules of every manifest, and its signature."""
        manifest, name = parse_head(self.version), self.version.remote.name
        if self.config.digest and not manifest.digest.startswith(self.config.digest):
            raise StoreCorrupt(
                f"{name} has {manifest.full_name} with digest {manifest.digest}, {self.config.digest} was asked for; "
                "pull that version with @DIGEST, or ask its owner"
            )
        version, retry = self.version, self.config.retry
        signature = read_remote_file(version.remote, version.prefix + SIGNATURE, limit=SIGNATURE_LIMIT, retry=retry)
        signed = ""
        if self.config.public_key:
            signed = check_signature(self.version.head, signature, self.config.public_key, what=name)
        return manifest, signature, signed

    def _fetch(self, manifest: Manifest, staging: Path, target: Path) -> tuple[set[str], int]:
        """Bring what is not here, whole; give the encoders that are here then, and the bytes that came."""
        is_here = (target / MANIFEST).is_file()
        here = set(manifest.encoders) - set(absent_encoders(target, manifest)) if is_here else set()
        wanted = find_encoders(manifest, self.config.encoders, where=self.version.remote.name)
        missing = [file for file in manifest.files if file_fault(target / file.path, file)]
        tables = [file for file in missing if not file.path.startswith("embeddings/")]
        needed = sum(file.n_bytes for file in missing if size_on_disk(staging / file.path) != file.n_bytes)
        free = disk_usage(staging.parent).free
        if needed > free:
            raise NotAvailable(
                f"{staging.parent} has {free:,} bytes free, {needed:,} are to come; free space, choose another `home`, "
                "or pull fewer encoders (`encoder`)"
            )
        n_bytes = self._bring(tables, staging)
        for key in (key for key in manifest.encoders if key in here or key in wanted):
            try:
                n_bytes += self._bring([file for file in missing if is_of(file, key)], staging)
            except Absent as error:
                rmtree(staging / "embeddings" / key, ignore_errors=True)
                if self.config.encoders or key in here:
                    raise NotAvailable(
                        f"{self.version.remote.name} does not share the encoder {key}; leave it out"
                    ) from error
            else:
                here.add(key)
        return here, n_bytes

    def _bring(self, files: Sequence[StoredFile], staging: Path) -> int:
        try:
            return self.version.fetch(files, staging)
        except Absent as error:
            if all(file.path.startswith("embeddings/") for file in files):
                raise
            raise StoreCorrupt(
                f"{self.version.remote.name} lacks a file of its manifest; ask its owner to push again"
            ) from error


def parse_head(version: RemoteVersion) -> Manifest:
    """Read the manifest of a version that lies elsewhere; ``StoreCorrupt`` if its digest is not the expected one."""
    where = version.remote.name
    manifest = parse_manifest(version.head, address=f"{where}/{version.prefix}{MANIFEST}")
    check_name(manifest.full_name)
    if not manifest.digest.startswith(version.expected):
        raise StoreCorrupt(
            f"{where} gives {manifest.digest} where {version.expected} was asked for; do not use it, ask its owner"
        )
    return manifest


def find_encoders(manifest: Manifest, names: Sequence[str], *, where: str) -> list[str]:
    """Find encoders by id or name; all of them if none is named."""
    if not names:
        return list(manifest.encoders)
    found = (manifest.find_encoder(name, where=where, hint="give one of these") for name in names)
    return list(dict.fromkeys(found))


def files_with(manifest: Manifest, encoders: Collection[str]) -> tuple[StoredFile, ...]:
    """Files of a store, but those of other encoders."""
    left = [key for key in manifest.encoders if key not in encoders]
    return tuple(file for file in manifest.files if not any(is_of(file, key) for key in left))


def _mend(staging: Path, target: Path) -> None:
    """Put what came into a store that is here: encoders that it lacked as one folder, files that were damaged alone."""
    for folder in sorted((staging / "embeddings").glob("*")):
        if not (target / "embeddings" / folder.name).exists():
            (target / "embeddings").mkdir(exist_ok=True)
            folder.rename(target / "embeddings" / folder.name)
    for path in sorted(path for path in staging.rglob("*") if path.is_file() and not path.name.endswith(TEMPORARY)):
        final = target / path.relative_to(staging)
        final.parent.mkdir(parents=True, exist_ok=True)
        path.replace(final)
    rmtree(staging, ignore_errors=True)
