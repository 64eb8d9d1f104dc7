"""Texts cut on the end of a sentence before a model sees them, and batches of texts of one length."""

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

from genekb.core.errors import EncoderFailed
from genekb.encoders.base import EncoderSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PAD_TO: Final = 16

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


class SentenceCutter:
    """Truncates texts to what a recipe allows, and orders them by length.

    Raises ``EncoderFailed`` if prompt and special tokens alone fill `spec.max_tokens`.
    """

    def __init__(self, tokenizer: "Tokenizer", *, spec: EncoderSpec) -> None:
        self.spec = spec
        # Padding goes up to a multiple of this, by the text's own length alone: what shares its batch leaves no trace.
        self.pad_to = math.gcd(_PAD_TO, spec.max_tokens)
        self._tokenizer = tokenizer
        self._budget = self._text_budget()

    def cut(self, texts: Sequence[str]) -> list[Cut]:
        """Truncate each text, on the end of a sentence, to the tokens that prompt and special tokens leave."""
        self._keep_whole()
        found = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        ends = ([end for _, end in encoding.offsets] for encoding in found)
        return [cut_to_tokens(text, token_ends=e, limit=self._budget) for text, e in zip(texts, ends, strict=True)]

    def batches(self, texts: Sequence[str], *, size: int) -> Iterator[list[int]]:
        """Rows of texts of equal padded length, the longest first, in an order that does not depend on the input's."""
        self._keep_whole()
        found = self._tokenizer.encode_batch_fast([self.spec.prompt + text for text in texts])
        lengths = [math.ceil(len(encoding.ids) / self.pad_to) for encoding in found]
        order = sorted(range(len(texts)), key=lambda row: (-lengths[row], texts[row]))
        for _, same_length in groupby(order, key=lengths.__getitem__):
            rows = list(same_length)
            yield from (rows[start : start + size] for start in range(0, len(rows), size))

    def _keep_whole(self) -> None:
        """Switch off the padding and truncation that a tokenizer has from its file, or from its last use."""
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def _text_budget(self) -> int:
        """Tokens left for the text when prompt and special tokens are in; 0 is no limit."""
        if not self.spec.max_tokens:
            return 0
        self._keep_whole()
        used = len(self._tokenizer.encode(self.spec.prompt).ids)
        if used >= self.spec.max_tokens:
            raise EncoderFailed(
                f"encoder {self.spec.name!r} reads {self.spec.max_tokens} tokens, its prompt alone takes {used}"
            )
        return self.spec.max_tokens - used
