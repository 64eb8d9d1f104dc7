"""The Hugging Face Hub: one commit of a repository to read from, and a push that is one commit."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from genekb.core.errors import NotAvailable
from genekb.share.addresses import Address
from genekb.share.remotes import WebRemote

if TYPE_CHECKING:
    import httpx

_TOKEN: Final = "set HF_TOKEN to a token that may use the repository"


def hub_remote(address: Address, client: "httpx.Client") -> WebRemote:
    """Open the commit that a branch, a tag or the main branch stands for now.

    Raises ``NotAvailable`` if there is no such repository or revision, or it is private and HF_TOKEN does not open it.
    """
    from huggingface_hub import HfApi, constants, get_token

    repository, repo_type = _repository(address)
    with _hub_errors(address):
        info = HfApi().repo_info(repository, repo_type=repo_type, revision=address.revision or None)
    prefix = "" if repo_type == "model" else f"{repo_type}s/"
    if token := get_token():
        client.headers["Authorization"] = f"Bearer {token}"
    return WebRemote(
        base=f"{constants.ENDPOINT}/{prefix}{repository}/resolve/{info.sha}",
        client=client,
        shown=f"{address.url}@{info.sha}",
        way_out=_TOKEN,
    )


def push_to_hub(folder: Path, address: Address, *, digest: str, patterns: list[str]) -> str:
    """Make a folder's files the content of a repository, by one commit, and tag it with the digest.

    ``patterns``: files to send, as paths below the folder; all others of the repository are deleted by the same commit.
    Returns the commit. Raises ``NotAvailable`` if the Hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]  # exported lazily

    if not sys.stderr.isatty():
        disable_progress_bars()
    repository, repo_type = _repository(address)
    with _hub_errors(address):
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


@contextmanager
def _hub_errors(address: Address) -> Iterator[None]:
    """Say in one line what the Hub refuses; its own messages may hold addresses with tokens."""
    from huggingface_hub import errors

    shown = address.url + (f"@{address.revision}" if address.revision else "")
    try:
        yield
    except errors.RevisionNotFoundError:
        raise NotAvailable(f"{shown}: there is no such branch, tag or commit") from None
    except errors.RepositoryNotFoundError:
        raise NotAvailable(f"{shown}: there is no such repository, or it is private; {_TOKEN}") from None
    except errors.LocalTokenNotFoundError:
        raise NotAvailable(f"{shown} asks for a login; {_TOKEN}") from None
    except errors.OfflineModeIsEnabled:
        raise NotAvailable(f"{shown} cannot be reached: HF_HUB_OFFLINE is set; unset it") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no"
        raise NotAvailable(f"{shown}: the Hub answered with status {status}; {_TOKEN}, or try again later") from None
    except (OSError, RuntimeError, errors.HTTPError) as error:  # type: ignore[attr-defined]  # of its HTTP client
        raise NotAvailable(
            f"{shown} cannot be reached ({type(error).__name__}); check the network, then run it again"
        ) from None
    except ValueError as error:
        raise NotAvailable(
            f"{shown}: the Hub's answer is not understood ({type(error).__name__}); update huggingface_hub"
        ) from None
