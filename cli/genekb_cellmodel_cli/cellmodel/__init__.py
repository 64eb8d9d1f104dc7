"""The command `cellmodel`."""

from genekb_cellmodel_cli import assistants
from genekb_cellmodel_cli.app.running import make_app, make_group, run
from genekb_cellmodel_cli.app.signature import expand_groups
from genekb_cellmodel_cli.cellmodel import (
    annotate,
    attribute,
    bench,
    classify,
    cluster,
    compare,
    doctor,
    export,
    perturb,
    plot,
    samples,
    share,
)


def _require_cells() -> None:
    """Check that the packages for cells are installed."""
    from genekb.core.plugins import require

    require("anndata", needed_by="cellmodel needs")


app = make_app(
    "cellmodel",
    "Single cells that carry the meaning of their genes.",
    {
        "run": cluster.run,
        "cluster": cluster.cluster,
        "report": plot.report,
        "view": plot.view,
        "eval": bench.evaluate,
        "demo": cluster.demo,
        "annotate": annotate.annotate,
        "attribute": attribute.attribute,
        "bench": bench.bench,
        "classify": classify.classify,
        "compare": compare.compare,
        "composition": samples.composition,
        "export": export.export,
        "map-labels": annotate.map_labels,
        "model": make_group(
            "Share fitted models: push and pull; `genekb lock` pins them.",
            {"push": share.push, "pull": share.pull},
            before=_require_cells,
        ),
        "markers": samples.markers,
        "mcp": assistants.mcp,
        "perturb": perturb.perturb,
        "plot": plot.plot,
        "predict": classify.predict,
        "search": annotate.search,
    },
    before=_require_cells,
)
app.command("doctor")(expand_groups(doctor.doctor))  # also where the packages for cells are missing


def main() -> None:
    """Run `cellmodel`."""
    run(app, "cellmodel")
