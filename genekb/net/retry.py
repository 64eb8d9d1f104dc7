"""How often, and how soon again, a server is asked: growing waits, and one rate for all processes of a machine."""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from genekb.core.errors import NotAvailable
from genekb.files.atomic import system_errors

if TYPE_CHECKING:
    from tenacity import RetryCallState

MAX_WAIT_S: Final = 300.0  # a server that asks for a longer pause is not waited for
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 60.0

logger = logging.getLogger(__name__)
Answer = TypeVar("Answer")


class TryAgain(Exception):
    """One try failed in a way that another may mend; the message holds no address and nothing that a server sent."""

    def __init__(self, reason: str, *, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s  # pause that the server asks for


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """How a server is asked; ``ValueError`` if a number is not positive."""

    n_jobs: int = 4  # parallel downloads
    max_tries: int = 6  # of each request, the first included, without any progress in between
    timeout_s: float = 60.0  # longest silence of a server
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)  # waits between tries, in seconds

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.n_jobs < 1 or self.max_tries < 1 or self.timeout_s <= 0:
            raise ValueError(f"jobs, tries and timeout must be positive, got {self}")

    def call(self, request: Callable[[], Answer], *, failure: str, hint: str = "run the same command again") -> Answer:
        """Ask until an answer comes; the pauses double, with jitter; ``NotAvailable`` if no try succeeds."""
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

        retrying = Retrying(
            stop=stop_after_attempt(self.max_tries),
            wait=_wait_s,
            retry=retry_if_exception_type(TryAgain),
            before_sleep=_log_retry,
            sleep=self.sleep,
            reraise=True,
        )
        try:
            return retrying(request)
        except TryAgain as error:
            raise NotAvailable(f"{failure} in {self.max_tries} tries (last: {error}); {hint}") from error


def _wait_s(state: "RetryCallState") -> float:
    from tenacity import wait_exponential_jitter

    error = state.outcome.exception() if state.outcome else None
    asked = error.wait_s if isinstance(error, TryAgain) else 0.0
    if asked > MAX_WAIT_S:
        raise NotAvailable(f"the server asks to wait {asked:.0f} s ({error}); run the same command again then")
    return max(asked, wait_exponential_jitter(initial=_FIRST_WAIT_S, max=_LONGEST_WAIT_S, jitter=1)(state))


def _log_retry(state: "RetryCallState") -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.warning("try %d failed (%s); again in %.0f s", state.attempt_number, error, state.upcoming_sleep)


def retry_after_s(value: str) -> float:
    """Seconds of a ``Retry-After`` header, which holds a number or a date; 0 where it holds neither."""
    if re.fullmatch(r"\d{1,9}(\.\d*)?", value.strip()):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RateLimit:
    """At most one call at a time, and a pause after the end of each, over all processes that share a folder."""

    folder: Path  # holds the lock and the time of the last call
    name: str  # of the server's files in that folder
    pause_s: float  # between the end of a call and the start of the next

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, and hold it inside the block; ``NotAvailable`` if the folder cannot be written to."""
        import filelock

        stamp = self.folder / f"{self.name}.last"
        lock = filelock.FileLock(self.folder / f"{self.name}.lock")
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            held = lock.acquire()
        with held:
            time.sleep(self._remaining_s(stamp))
            try:
                yield
            finally:
                with self._writing():
                    stamp.write_text(repr(time.time()), encoding="utf-8")

    def _writing(self) -> AbstractContextManager[None]:
        hint = "set XDG_CACHE_HOME to a folder that can be written to"
        return system_errors(f"cannot note the time of a call in {self.folder}", hint=hint)

    def _remaining_s(self, stamp: Path) -> float:
        """Rest of the pause; the whole of it where the note is unreadable or from the future (a clock set back)."""
        try:
            passed = time.time() - float(stamp.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return 0.0
        except ValueError:
            passed = 0.0
        return self.pause_s - max(0.0, min(passed, self.pause_s))
