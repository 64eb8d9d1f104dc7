"""The Hugging Face Hub: one commit of a repository to read from, and a push that is one commit."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from genekb.net.hub import TOKEN_HINT, hub_errors
from genekb.share.addresses import Address
from genekb.share.remotes import WebRemote

if TYPE_CHECKING:
    import httpx


def hub_remote(address: Address, client: "httpx.Client") -> WebRemote:
    """Open the commit that a branch, a tag or the main branch points to now.

    Raises ``NotAvailable`` if there is no such repository or revision, or it is private and HF_TOKEN does not open it.
    """
    from huggingface_hub import HfApi, constants, get_token

    repository, repo_type = _repository(address)
    with hub_errors(_shown(address)):
        info = HfApi().repo_info(repository, repo_type=repo_type, revision=address.revision or None)
    prefix = "" if repo_type == "model" else f"{repo_type}s/"
    if token := get_token():
        client.headers["Authorization"] = f"Bearer {token}"
    return WebRemote(
        base=f"{constants.ENDPOINT}/{prefix}{repository}/resolve/{info.sha}",
        client=client,
        shown=f"{address.url}@{info.sha}",
        hint=TOKEN_HINT,
    )


def push_to_hub(folder: Path, address: Address, *, digest: str, patterns: list[str]) -> str:
    """Make files of a folder the only content of a repository, by one commit tagged with the digest; give the commit.

    Raises ``NotAvailable`` if the Hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # exported lazily

    if not sys.stderr.isatty():
        disable_progress_bars()
    repository, repo_type = _repository(address)
    with hub_errors(_shown(address)):
        api = HfApi()
        api.create_repo(repository, repo_type=repo_type, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            repo_type=repo_type,
            revision=address.revision or None,
            folder_path=folder,
            allow_patterns=patterns,
            delete_patterns="*",
            commit_message=f"{digest[:16]}",
        )
        api.create_tag(repository, repo_type=repo_type, tag=digest, revision=commit.oid, exist_ok=True)
    return commit.oid


def _repository(address: Address) -> tuple[str, str]:
    """Take ``owner/name`` and the Hub's word for the kind of repository out of an address."""
    kind, _, repository = address.url.removeprefix("hf://").partition("/")
    return repository, kind.removesuffix("s")


def _shown(address: Address) -> str:
    return address.url + (f"@{address.revision}" if address.revision else "")
