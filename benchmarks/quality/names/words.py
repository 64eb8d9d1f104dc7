"""Words of clusters beside the Cell Ontology and the vocabulary of gene nomenclature; words.{json,md}.

    python -m benchmarks.quality.names.words --output results --home HOME --human best --mouse mouse

Clusters are the annotators' types, taken as clusters that were made elsewhere. Of the first five words of a type: is
one a content word of its ontology label, synonyms or definition (of the first right name of `type_names.toml`); how
many are cut phrases or nomenclature (`words.toml`). The same with permuted texts. Exits with 1 where a bar is missed.
"""

import json
import re
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import genekb
from benchmarks.lib.protocol import LINEAR, bar_line, command_line, finish, load_datasets, markdown
from benchmarks.quality.names.sets import half, more_sets
from cellmodel.annotate.cell_types import read_cell_types
from cellmodel.core.config import RunConfig
from cellmodel.core.random import generator
from cellmodel.explain.groups import clustered
from cellmodel.explain.words import words_by_moments
from cellmodel.io.cells import ReadConfig, read_cells
from cellmodel.pp.moments import cluster_moments

N_FIRST, HIT_BAR, FRAGMENT_BAR, SHUFFLED_BAR = 5, 0.80, 0.03, 0.15
LISTS = {
    key: frozenset(text.split())
    for key, text in tomllib.loads(Path(__file__).with_name("words.toml").read_text()).items()
}
NUMBER = re.compile(r"[ivx]+|[0-9]+")


def content_words(text: str) -> set[str]:
    """Words with a meaning of their own, singular."""
    return {
        word.removesuffix("s")
        for word in re.findall(r"[a-z][a-z0-9]*", text.lower())
        if word not in LISTS["glue"] | LISTS["empty"]
    }


def read_meanings() -> dict[str, set[str]]:
    """Read the content words of label, synonyms and definition of each term."""
    packed = files("cellmodel.annotate").joinpath("data", "CL-ontology-v2026-03-26.json.zst").read_bytes()
    terms = json.loads(pa.input_stream(pa.py_buffer(packed), compression="zstd").read())
    return {
        key: content_words(" ".join([one["label"], one.get("description") or "", *one.get("synonyms", ())]))
        for key, one in terms.items()
    }


def is_fragment(term: str) -> bool:
    """Whether a term is nomenclature throughout, or a phrase that is cut or begins with a number."""
    words = term.split()
    is_cut = not LISTS["glue"].isdisjoint((words[0], words[-1])) or bool(NUMBER.fullmatch(words[0]))
    return is_cut or all(word in LISTS["nomenclature"] for word in words)


def first_words(found: Any, *, shuffled: bool) -> dict[str, list[str]]:
    """Find the first words of each type, with the texts of the genes or permuted ones."""
    texts = np.array(found.known.texts, dtype=object)
    if shuffled:
        having = np.flatnonzero([bool(text) for text in texts])
        texts[having] = texts[generator(0, "permuted texts").permutation(having)]
    words = words_by_moments(
        *cluster_moments(found.expression, found.labels), texts=texts.tolist(), gene_names=found.gene_names,
        n_words=N_FIRST, seed=0, split=found.known.split, cite=found.known.cite,
    )  # fmt: skip
    return {found.names[one.cluster]: [word.term for word in one.words] for one in words}


def main() -> int:
    """Score the words of every set."""
    parser = command_line(__doc__)
    parser.add_argument("--human", default="human", help="Store of the home for human sets.")
    parser.add_argument("--mouse", default="mouse", help="Store of the home for mouse sets.")
    options = parser.parse_args()
    stores = {taxon: genekb.open(getattr(options, taxon), home=options.home) for taxon in ("human", "mouse")}
    meanings, types = read_meanings(), {one.name: one for one in read_cell_types()}
    right = tomllib.loads(Path(__file__).with_name("type_names.toml").read_text())
    rows = []
    for data in [*load_datasets(), *(one for one in more_sets() if one.name not in LINEAR)]:
        names = right.get(data.name)
        if names is None:
            continue
        found = clustered(
            read_cells(data.path, ReadConfig()), stores[data.taxon], RunConfig(), cluster_key=data.label_key
        )
        both = {kind: first_words(found, shuffled=kind == "shuffled") for kind in ("real", "shuffled")}
        for label, candidates in names.items():
            terms = [types[name].ontology_id for name in candidates if name in types and types[name].ontology_id]
            if label not in found.names or not terms:
                continue
            known = meanings[terms[0]]
            row: dict[str, Any] = {"data": data.name, "half": half(data.name), "label": label}
            for kind, words in both.items():
                row[kind] = words[label]
                row[f"{kind} hit"] = any(content_words(word) & known for word in words[label])
            rows.append(row | {"fragments": [word for word in row["real"] if is_fragment(word)]})
        sys.stderr.write(f"{data.name}\n")
    parts = {"all": rows, **{key: [row for row in rows if row["half"] == key] for key in "AB"}}
    figures = [
        (
            name,
            len(part),
            *(float(np.mean([row[f"{kind} hit"] for row in part])) for kind in ("real", "shuffled")),
            sum(len(row["fragments"]) for row in part) / sum(len(row["real"]) for row in part),
        )
        for name, part in parts.items()
    ]
    columns = ("sets", "types", "a word of the ontology", "texts shuffled", "fragments, nomenclature")
    table = [(row["data"], row["label"], ", ".join(row["real"]), "yes" if row["real hit"] else "") for row in rows]
    page = [*markdown(columns, figures), "", *markdown(("data", "type", "words", "of the ontology"), table)]
    _, _, hit, shuffled, fragments = figures[0]
    bars = [
        bar_line("types with a word of the ontology", hit, HIT_BAR),
        bar_line("fragments, nomenclature", fragments, FRAGMENT_BAR, at_most=True),
        bar_line("types with such a word by permuted texts", shuffled, SHUFFLED_BAR, at_most=True),
    ]
    return finish(options.output, "words", rows, lines=page, bars=bars)


if __name__ == "__main__":
    sys.exit(main())
