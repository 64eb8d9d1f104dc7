"""The command `genekb`."""

from genekb_cellmodel_cli.app.running import make_app, run
from genekb_cellmodel_cli.genekb import build, compare, export, query, stores

app = make_app(
    "genekb",
    "Versioned, verifiable stores of gene text and its embeddings.",
    {
        "build": build.build,
        "info": stores.info,
        "resolve": query.resolve,
        "sql": query.sql,
        "verify": stores.verify,
        "download": build.download,
        "update": build.update,
        "encode": build.encode,
        "diff": stores.diff,
        "search": query.search,
        "name-set": query.name_set,
        "compare": compare.compare,
        "export": export.export,
        "gc": stores.gc,
        "push": stores.push,
        "pull": stores.pull,
        "lock": stores.lock,
    },
)


def main() -> None:
    """Run `genekb`."""
    run(app, "genekb")
