"""Errors of cellmodel: one small tree; every message names the thing, the value, the limit and a hint."""

from genekb.core.addresses import without_secrets


class CellModelError(Exception):
    """Base of every error that cellmodel raises on purpose; addresses in its message are without user and password."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(without_secrets(arg) if isinstance(arg, str) else arg for arg in args))


class InputUnusable(CellModelError):
    """A cell file cannot be read, or does not hold cells by genes."""


class UnknownName(InputUnusable):
    """A recipe, a head or a kind of knowledge is asked for by a name that none has."""


class NotCounts(InputUnusable):
    """The values are neither counts nor log-normalized expression, so no step after this one would mean anything."""


class AlignmentTooLow(InputUnusable):
    """Too few genes of the cells are known to the store."""


class SlotTaken(InputUnusable):
    """A slot of the user's AnnData would be overwritten, and overwriting was not allowed."""


class KeyUnusable(CellModelError, ValueError):
    """A name for results cannot be that of a slot in a file."""


class WorkUnwritten(InputUnusable):
    """A stage of a long run cannot be written; what was done before it is kept."""


class LineageMismatch(CellModelError):
    """A store does not hold what a result or a model was made with."""


class TrainingDiverged(CellModelError):
    """A loss became infinite or NaN."""


class NotAvailable(CellModelError):
    """A device or an optional package is not there, or processes that were to train together did not stay alive."""
