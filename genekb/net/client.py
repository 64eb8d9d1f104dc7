"""Requests to web servers: one client, which failures are tried again, how slow is too slow, errors of the Hub."""

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

from genekb.core.addresses import host_of, is_web_address, public_url, without_login
from genekb.core.errors import NotAvailable
from genekb.net.retry import TryAgain, retry_after_s

if TYPE_CHECKING:
    import httpx

OK: Final = 200
PARTIAL: Final = 206
RANGE_REFUSED: Final = 416
MIN_BYTES_PER_S: Final = 1000  # of each connection; a line of 20 kB/s carries twenty files at once
WINDOW_S: Final = 60.0
_BUSY: Final = frozenset({408, 425, 429})
_SERVER_ERROR: Final = 500


class Absent(Exception):
    """The server does not give a file; the message is the status."""


def open_client(timeout_s: float) -> "httpx.Client":
    """Open a client that follows redirects to web addresses alone; ``timeout_s`` is the longest silence."""
    import httpx

    return httpx.Client(
        timeout=httpx.Timeout(timeout_s),
        headers={"User-Agent": "genekb", "Accept-Encoding": "identity"},
        follow_redirects=True,
        event_hooks={"response": [_check_redirect]},
    )


def _check_redirect(response: "httpx.Response") -> None:
    """Refuse a redirect that no try can follow; where it leads to is not shown: it may hold what was sent."""
    if not response.has_redirect_location:
        return
    try:
        target = urljoin(str(response.url), response.headers["Location"])
    except ValueError:  # brackets that do not close
        target = ""
    if not is_web_address(target):
        host = host_of(str(response.url))
        raise NotAvailable(f"{host} redirects to something other than a web address; check the address")


def is_busy(status: int) -> bool:
    """Whether a status of failure may be another one when a server is asked later."""
    return status in _BUSY or status >= _SERVER_ERROR


def check_reachable(client: "httpx.Client", url: str, *, hint: str) -> None:
    """Ask once whether a server is there at all, so that without a network nobody waits for six tries."""
    import httpx

    try:
        client.head(public_url(url))
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise NotAvailable(f"{host_of(url)} cannot be reached ({type(error).__name__}); {hint}") from error
    except httpx.HTTPError:
        return


@contextmanager
def ask(
    client: "httpx.Client", method: str, url: str, headers: Mapping[str, str], *, absent: Collection[int] = (),
    refusal: str, content: bytes = b"",
) -> "Iterator[httpx.Response]":  # fmt: skip
    """Send a request and hold the answer open; ``Absent`` at such a status, ``TryAgain`` or ``NotAvailable``."""
    import httpx

    address, login = without_login(url)
    try:
        with client.stream(method, address, headers=dict(headers), content=content, auth=login) as response:
            status = response.status_code
            if is_busy(status):
                raise TryAgain(f"status {status}", wait_s=retry_after_s(response.headers.get("Retry-After", "")))
            if status in absent:
                raise Absent(f"status {status}")
            if status not in {OK, PARTIAL, RANGE_REFUSED}:
                raise NotAvailable(refusal.replace("{status}", str(status)))
            yield response
    except httpx.TooManyRedirects as error:
        raise NotAvailable(f"{host_of(url)} redirects without end; check the address") from error
    except httpx.RequestError as error:
        raise TryAgain(type(error).__name__) from error


def blocks_of(response: "httpx.Response") -> Iterator[bytes]:
    """Give the bytes of an answer as they come, unless they come too slowly; silence is the client's timeout."""
    since, n_bytes = time.monotonic(), 0
    for block in response.iter_raw():
        yield block
        n_bytes += len(block)
        passed = time.monotonic() - since
        if passed >= WINDOW_S:
            if n_bytes < MIN_BYTES_PER_S * passed:
                raise NotAvailable(
                    f"{host_of(str(response.url))} sent {n_bytes:,} bytes in {passed:.0f} s, {MIN_BYTES_PER_S:,} a "
                    "second are needed; what has arrived is kept: run the same command again later"
                )
            since, n_bytes = time.monotonic(), 0


TOKEN_HINT: Final = "set HF_TOKEN to a token that may use the repository"


@contextmanager
def hub_errors(shown: str) -> Iterator[None]:
    """Report in a line what the Hub refuses of ``shown``; its client's own messages may hold tokens."""
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
