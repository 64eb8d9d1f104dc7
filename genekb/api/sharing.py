"""Stores, from and to where others have them."""

from pathlib import Path
from typing import TYPE_CHECKING

from genekb.api.opening import Names, open, several, user_path
from genekb.core.python import for_python
from genekb.store.reader import Store

if TYPE_CHECKING:
    from genekb.share.push import Pushed


@for_python
def pull(
    url: str,
    *,
    encoder: Names | None = None,
    digest: str | None = None,
    public_key: str | None = None,
    home: str | Path | None = None,
) -> Store:
    """Bring a shared store to this machine, as `genekb pull` does, every byte checked; it is opened then.

    ``url``: folder, web server, ``s3://`` or ``hf://``; ``encoder``: those to bring, all if None; ``digest``,
    ``public_key``: what the store must have, and by which key it must be signed.

    Examples
    --------
    >>> import genekb as gk
    >>> _ = gk.push("demo", "shared/demo")
    >>> gk.pull("shared/demo", home="home-of-a-colleague").manifest.full_name
    'demo@1'
    """
    from genekb.share.pull import PullConfig, pull_store
    from genekb.share.remotes import parse_address

    wanted = PullConfig(encoders=tuple(several(encoder)), digest=digest or "", public_key=public_key or "")
    return Store(pull_store(parse_address(url), wanted, home=user_path(home)).folder)


@for_python
def push(
    store: str | Store,
    url: str,
    *,
    encoder: Names | None = None,
    allow_licence: Names = (),
    home: str | Path | None = None,
) -> "Pushed":
    """Copy a store to where others can pull it, as `genekb push` does; ``encoder``: those to push, all if None.

    ``allow_licence``: sources that may be shared though their licence is not stated, or not free.

    Examples
    --------
    >>> import genekb as gk
    >>> gk.push("demo", "shared/demo").n_sent > 0
    True
    """
    from genekb.share.push import push_store
    from genekb.share.remotes import parse_address

    return push_store(
        open(store, home=home), parse_address(url), encoders=several(encoder), allow_licence=several(allow_licence)
    )
