"""Errors of the Hugging Face Hub's client, as errors of ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from genekb.core.errors import NotAvailable

TOKEN_HINT: Final = "set HF_TOKEN to a token that may use the repository"


@contextmanager
def hub_errors(shown: str) -> Iterator[None]:
    """Report in one line what the Hub refuses; its client's own messages may hold addresses with tokens.

    ``shown``: how errors name the repository.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.RevisionNotFoundError:
        raise NotAvailable(f"{shown}: there is no such branch, tag or commit") from None
    except errors.RepositoryNotFoundError:
        raise NotAvailable(f"{shown}: there is no such repository, or it is private; {TOKEN_HINT}") from None
    except errors.LocalTokenNotFoundError:
        raise NotAvailable(f"{shown} asks for a login; {TOKEN_HINT}") from None
    except errors.OfflineModeIsEnabled:
        raise NotAvailable(f"{shown} cannot be reached: HF_HUB_OFFLINE is set; unset it") from None
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no"
        raise NotAvailable(f"{shown}: the Hub answered with status {status}; {TOKEN_HINT}, or try later") from None
    except (OSError, RuntimeError, errors.HTTPError) as error:  # type: ignore[attr-defined]  # of its HTTP client
        raise NotAvailable(f"{shown} cannot be reached ({type(error).__name__}); check the network") from None
    except errors.HFValidationError:
        raise NotAvailable(f"{shown} is not owner/name; check the name, or give a local folder") from None
    except ValueError as error:
        raise NotAvailable(
            f"{shown}: the Hub's answer is not understood ({type(error).__name__}); update huggingface_hub"
        ) from None
