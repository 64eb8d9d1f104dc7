"""Errors of genekb: one small tree; every message names the thing, the value, the limit and a hint."""

from genekb.core.addresses import without_secrets


class GeneKBError(Exception):
    """Base of every error that genekb raises on purpose; addresses in its message are without user and password."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(without_secrets(arg) if isinstance(arg, str) else arg for arg in args))


class SourceUnusable(GeneKBError):
    """A source file is missing, malformed, or holds nothing for the species asked for."""


class OutputUnusable(GeneKBError):
    """An output cannot be written under the name that was given; what has that name is never replaced unasked."""


class CoverageTooLow(GeneKBError):
    """Fewer names resolve against the store than the caller demanded."""


class SpeciesMismatch(CoverageTooLow):
    """The names are those of another species than the store's."""


class NotAvailable(GeneKBError):
    """A store, an encoder or its weights are not on this machine (and no network was asked for)."""


class MemoryLimitReached(GeneKBError):
    """An input needs more memory than the limit of the process allows."""


class EncoderFailed(GeneKBError):
    """An encoder was loaded but did not give finite vectors of the promised shape."""


class StoreCorrupt(GeneKBError):
    """The bytes of a store, or of an encoder's weights, differ from what its manifest promises."""


class SchemaMismatch(GeneKBError):
    """The store was written with a schema version that this reader does not know."""


class StoreBusy(GeneKBError):
    """Another process is building the same store."""
