"""Cut a text to a number of tokens on the end of a sentence, and count what was cut."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

_ABBREVIATIONS = ("e.g", "i.e", "al", "vs", "cf", "ca", "approx", "fig", "no", "sp", "spp", "resp", "dr", "st")
_NOT_ABBREVIATED = "".join(rf"(?<!\b(?i:{re.escape(word)}))" for word in _ABBREVIATIONS)
# A stop, closing brackets or quotes, then blank space before a capital or digit: "S. cerevisiae" is no end.
_SENTENCE_END = re.compile(rf"{_NOT_ABBREVIATED}[.!?]+[\"')\]]*(?=\s+[\"'(\[]*[^\W_a-z])")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A text as an encoder may read it."""

    text: str  # the text, or its beginning
    n_tokens: int  # tokens of the whole text
    n_tokens_cut: int  # how many of them lie behind the cut


def sentence_ends(text: str) -> list[int]:
    """Positions just behind each sentence of `text`, in characters; the last is the end without blank space."""
    return [*(match.end() for match in _SENTENCE_END.finditer(text)), len(text.rstrip())]


def cut_to_tokens(text: str, *, token_ends: Sequence[int], limit: int) -> Cut:
    """Keep the whole sentences that fit into `limit` tokens, of a longer first sentence the whole words.

    ``token_ends``: position in characters behind each token, never falling. ``limit``: 0 keeps all.
    """
    if limit < 0:
        raise ValueError(f"limit must be >= 0 (0: none), got {limit}")
    n_tokens = len(token_ends)
    if limit == 0 or n_tokens <= limit:
        return Cut(text=text, n_tokens=n_tokens, n_tokens_cut=0)
    reach = _reach(token_ends, limit=limit)
    ends = sentence_ends(text)
    n_whole = bisect_right(ends, reach)
    end = ends[n_whole - 1] if n_whole else _word_end(text, reach=reach, first=token_ends[0])
    return Cut(text=text[:end], n_tokens=n_tokens, n_tokens_cut=n_tokens - bisect_right(token_ends, end))


def _reach(token_ends: Sequence[int], *, limit: int) -> int:
    """Furthest position behind which no more than `limit` tokens end; a character of several tokens stays whole."""
    if token_ends[limit] > token_ends[limit - 1]:
        return token_ends[limit - 1]
    n_before = bisect_left(token_ends, token_ends[limit])
    return token_ends[max(n_before - 1, 0)]


def _word_end(text: str, *, reach: int, first: int) -> int:
    """End of the last whole word of ``text[:reach]``, or `reach` itself if that would lose the first token."""
    if text[reach : reach + 1].isspace():
        return reach
    head = re.match(r".*\S(?=\s)", text[:reach], re.DOTALL)
    return head.end() if head and head.end() >= first else reach
