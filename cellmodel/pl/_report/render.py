"""One HTML file that needs nothing else: template, style and script are inlined, and no request leaves the page."""

import base64
import hashlib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from cellmodel.io.writers import output
from cellmodel.pl._report import style as formats
from cellmodel.pl._report.data import ReportData
from cellmodel.pl._report.payload import drawn_cells, plot_payload
from cellmodel.pl._report.view import (
    CURVE_NAME,
    HEIGHT,
    KNOWLEDGE_CAPTION,
    SIGNIFICANT,
    WIDTH,
    cluster_views,
    dot_plot,
    figures_of,
    k_chart,
    name_figures,
    split_at_term,
    status_in_words,
    training_charts,
)
from genekb.files.replace import Target

if TYPE_CHECKING:
    from jinja2 import Environment


def render_report(data: ReportData) -> str:
    """Render a report as one HTML page; the same data give the same page, byte for byte.

    Everything in ``data`` is taken for untrusted text: it is escaped, and a content security policy names the hashes
    of the only style and the only script that may take effect and forbids every request.
    """
    from markupsafe import Markup

    style, script = _asset("report.css"), _asset("report.js")
    clusters, in_cluster = cluster_views(data), data.clusters >= 0
    return (
        _environment()
        .from_string(_asset("template.html.j2"))
        .render(
            data=data,
            clusters=clusters,
            dot_plot=dot_plot(data, clusters),
            mean_confidence=float("nan") if data.confidence is None else float(data.confidence[in_cluster].mean()),
            n_clustered=int(in_cluster.sum()),
            n_drawn=len(drawn_cells(data.clusters)),
            k_chart=k_chart(data),
            training_charts=training_charts(data),
            curve_name=CURVE_NAME,
            knowledge_caption=KNOWLEDGE_CAPTION,
            name_figures=name_figures(data),
            **{
                f"has_{part}": any(cluster.evidence and cluster.evidence[part] for cluster in clusters)
                for part in ("themes", "contributions", "sets")
            },
            significant=SIGNIFICANT,
            chart_size=(WIDTH, HEIGHT),
            payload=Markup(plot_payload(data)),
            style=Markup(style),
            script=Markup(script),
            policy=_content_security_policy(style=style, script=script),
        )
    )


def write_report(data: ReportData, path: Path | str, *, overwrite: bool = False) -> None:
    """Render a report and write it whole or not at all, as UTF-8.

    Raises ``InputUnusable`` if the file exists and ``overwrite`` is false, or it cannot be written.
    """
    page = render_report(data).encode("utf-8", errors="backslashreplace")  # file names may hold undecodable bytes
    with output(Target(Path(path)), overwrite=overwrite) as part:
        part.write_bytes(page)


def _environment() -> "Environment":
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "percent": formats.percent,
        "count": formats.count,
        "number": formats.number,
        "p_value": formats.p_value,
        "fields": formats.fields,
        "breakable": formats.breakable,
        "figures_of": figures_of,
        "split_at_term": split_at_term,
        "in_words": status_in_words,
        "transposed": lambda rows: zip(*rows, strict=True),
    }
    return environment


def _content_security_policy(*, style: str, script: str) -> str:
    """Nothing may be loaded, and of inline style and script only these two."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_source_hash(style)}'; script-src '{_source_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _source_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _asset(name: str) -> str:
    """Text of a file of this package, with the line ends that a browser sees."""
    return files("cellmodel.pl._report").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")
