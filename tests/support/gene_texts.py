"""The text of one gene, field by field: what the templates of :mod:`genekb.genes.texts` say, value by value."""

import re

from genekb.genes.texts import DESIGNATIONS_LIMIT

PREFIX = {
    "designations": "Also: ",
    "aliases": "Aliases: ",
    "type": "Type: ",
    "map_location": "Location: ",
    "go_terms": "GO: ",
}
UNINFORMATIVE_NAME = re.compile(
    r"^(uncharacterized|hypothetical|novel|predicted gene|RIKEN cDNA|expressed sequence|LOC\d+)\b", re.IGNORECASE
)


def gene_text(record, template):
    """Write the text of one gene; None where no field is informative."""
    if not any(_informs(record, name) for name in template.informative):
        return None
    head = [text for name in template.head if (text := _field(record, name))]
    body = [text for name in template.body if (text := _field(record, name))]
    if not body:
        body = [text for name in template.fallback if (text := _field(record, name))]
    return " ".join(filter(None, [_sentence(": ".join(head)), *(_sentence(text) for text in body)]))


def _informs(record, name):
    text = _field(record, name)
    if name == "name":
        return bool(text) and text != record["symbol"] and not UNINFORMATIVE_NAME.match(text)
    if name == "designations":
        return bool(text) and any(not UNINFORMATIVE_NAME.match(item) for item in record["designations"])
    return bool(text)


def _field(record, name):
    value = record.get(name)
    if not value:
        return ""
    if isinstance(value, list):
        value = " ".join(map(_sentence, value)) if name == "generifs" else "; ".join(value)
        if name == "designations" and len(value) > DESIGNATIONS_LIMIT:
            value = value[:DESIGNATIONS_LIMIT].rsplit(";", 1)[0]
    text = " ".join(str(value).split())
    return PREFIX.get(name, "") + text if text else ""


def _sentence(text):
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."
