"""Detached signatures over a store's manifest, in minisign's format; the manifest's digests cover every other file."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from genekb.core.errors import NotAvailable, SourceUnusable, StoreCorrupt
from genekb.core.plugins import require
from genekb.core.python import for_python
from genekb.files.atomic import system_errors, write_text
from genekb.store.home import find_store
from genekb.store.manifest import MANIFEST, SIGNATURE, read_manifest
from genekb.store.reader import Store

if TYPE_CHECKING:
    import minisign

SIGNATURE_LIMIT: Final = 1 << 14
PASSWORD_VARIABLE: Final = "GENEKB_SIGN_PASSWORD"


@for_python
def keygen(key: str | Path) -> Path:
    """Make a secret key and a public one, as `genekb verify --new-key` does; give the latter, ``<key>.pub``.

    Parameters
    ----------
    key
        File of the secret key, which is encrypted with the password in ``GENEKB_SIGN_PASSWORD``.
    """
    library, secret = _library(), Path(key)
    public = secret.with_name(f"{secret.name}.pub")
    for path in (secret, public):
        if path.exists():
            raise SourceUnusable(f"{path} exists; a key is never replaced, give another name")
    pair = library.KeyPair.generate()
    pair.secret_key.encrypt(_password())
    with system_errors(f"{secret} cannot be written", hint="give another place"):
        secret.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(bytes(pair.secret_key))
        public.write_bytes(bytes(pair.public_key))
    return public


@for_python
def sign(store: str | Path | Store, key: str | Path, *, home: str | Path | None = None) -> Path:
    """Sign a store's manifest, as `genekb verify --sign` does; give the signature, which is shared with the store.

    Parameters
    ----------
    store
        Name, digest, path, or opened.
    key
        File of the secret key, see :func:`keygen`.
    home
        Artifact home; else GENEKB_HOME, else the user's data folder.
    """
    library, secret, place = _library(), Path(key), None if home is None else Path(home)
    folder = store.folder if isinstance(store, Store) else find_store(store, place)
    manifest = read_manifest(folder)
    opened = _read_key(library.SecretKey, secret)
    try:
        if opened.is_encrypted():
            opened.decrypt(_password())
        comment = f"{manifest.full_name} {manifest.digest}"
        signature = opened.sign((folder / MANIFEST).read_bytes(), trusted_comment=comment)
    except library.Error as error:
        raise SourceUnusable(f"{secret} does not open with the password in {PASSWORD_VARIABLE}") from error
    finally:
        opened.wipe()
    with system_errors(f"{folder / SIGNATURE} cannot be written", hint="the signature lies in this folder"):
        write_text(bytes(signature).decode(), folder / SIGNATURE)
    return folder / SIGNATURE


def check_signature(manifest: bytes, signature: bytes | None, public_key: str, *, what: str) -> str:
    """Check the signature of a manifest's bytes by a key, or its file; give the signed comment: name and digest."""
    library = _library()
    key = _read_public(library, public_key)
    if signature is None:
        raise StoreCorrupt(
            f"{what} is not signed, and a public key was given; ask its owner, or leave `public_key` out"
        )
    try:
        found = library.Signature.from_bytes(signature)
        key.verify(manifest, found)
    except library.Error as error:
        raise StoreCorrupt(f"{what} is not signed by the owner of this public key ({error}); do not use it") from error
    return str(found.trusted_comment)


def verify_signature(folder: Path, public_key: str) -> str:
    """Check the signature of a store on this machine, see :func:`check_signature`."""
    path = folder / SIGNATURE
    signature = path.read_bytes()[:SIGNATURE_LIMIT] if path.is_file() else None
    return check_signature((folder / MANIFEST).read_bytes(), signature, public_key, what=str(folder))


def _library() -> Any:
    require("minisign", needed_by="signatures need")
    import minisign

    return minisign


def _password() -> str:
    password = os.environ.get(PASSWORD_VARIABLE, "")
    if not password:
        raise NotAvailable(f"the secret key needs a password; set {PASSWORD_VARIABLE}")
    return password


def _read_key(kind: Any, path: Path) -> Any:
    try:
        with system_errors(f"{path} cannot be read", hint="make a key with `genekb verify` (`new_key`)"):
            return kind.from_file(path)
    except ValueError as error:
        raise SourceUnusable(f"{path} is no key of this kind; make one with `genekb verify` (`new_key`)") from error


def _read_public(library: Any, public_key: str) -> "minisign.PublicKey":
    path = Path(public_key).expanduser()
    if path.is_file():
        return _read_key(library.PublicKey, path)
    try:
        return library.PublicKey.from_base64(public_key)
    except ValueError as error:
        raise SourceUnusable(f"{public_key!r} is neither a public key nor a file that holds one") from error
