"""Names, docstrings and comments are in the field's words: say "permuted", "reported", "shared genes", "backed"."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTEAD = {
    "told|tells?|telling": "reported, logged",
    "dealt|deals?": "permuted, permutation",
    r"unfold\w*": "decompress",
    "meets?|met": "shared, matched",
    r"witness\w*": "evidence source",
    "loudest|quietest": "highest, lowest total expression",
    "said": "declared",
    "anew": "again",
    "stands? for": "maps to",
    "(carried|taken) over": "transferred, reused",
    "ways? out|way_out": "hint",
}
FORBIDDEN = {re.compile(rf"(?<![a-z])({words})(?![a-z])", re.IGNORECASE): say for words, say in INSTEAD.items()}
WRITTEN = (".py", ".js", ".j2", ".css", ".md")
FOLDERS = ("genekb", "cellmodel", "cli", "docs")
MODULES = sorted(
    path
    for name in FOLDERS
    for path in (ROOT / name).rglob("*")
    if path.suffix in WRITTEN and "_build" not in path.parts
)


def prose(path):
    """Docstrings, comments and names of a module; all of a template, script or page."""
    text = path.read_text()
    if path.suffix != ".py":
        yield from text.splitlines()
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        if isinstance(node, ast.arg):
            yield node.arg
        if isinstance(node, ast.Name):
            yield node.id
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_module_is_in_the_words_of_the_field(path):
    found = {
        f"{match[0]!r} in {text.strip()[:80]!r}: say {say}"
        for text in prose(path)
        for word, say in FORBIDDEN.items()
        for match in word.finditer(text.replace("_", " "))
    }
    assert not found
