"""The command `cellmodel`."""

from genekb_cellmodel_cli.app.running import make_app, run
from genekb_cellmodel_cli.cellmodel import annotate, attribute, bench, classify, cluster, compare, plot, share

app = make_app(
    "cellmodel",
    "Single cells that carry the meaning of their genes.",
    {
        "cluster": cluster.cluster,
        "embed": cluster.embed,
        "report": plot.report,
        "eval": bench.evaluate,
        "demo": cluster.demo,
        "annotate": annotate.annotate,
        "attribute": attribute.attribute,
        "bench": bench.bench,
        "ablate": bench.ablate,
        "classify": classify.classify,
        "compare": compare.compare,
        "plot": plot.plot,
        "predict": classify.predict,
        "search": annotate.search,
        "push": share.push,
        "pull": share.pull,
        "lock": share.lock,
        "sync": share.sync,
    },
)


def main() -> None:
    """Run `cellmodel`."""
    run(app, "cellmodel")
