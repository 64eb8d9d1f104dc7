"""One self-contained HTML file: template, style, script and the JSON of the plot are inlined."""

import base64
import hashlib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cellmodel.core.errors import InputUnusable
from cellmodel.io.writers import output
from cellmodel.pl.report.collect.data import ReportData, drawn_cells
from cellmodel.pl.report.page import formats
from cellmodel.pl.report.page.payload import plot_payload
from cellmodel.pl.report.page.view import page_view, split_at_term
from genekb.files.endings import REPORT, check_ending
from genekb.files.replace import Target

if TYPE_CHECKING:
    from jinja2 import Environment


_READY: Final = '\n  root.dataset.ready = "true";'  # the last line of the page's function


def render_report(data: ReportData, *, is_served: bool = False) -> str:
    """Render a report as one HTML page; the same data give the same page, byte for byte.

    Everything in ``data`` is taken for untrusted text: it is escaped, and a content security policy names the hashes
    of the only style and the only script that may take effect and forbids every request. ``is_served``: the page may
    ask the server that it came from, and no other, for genes that it does not hold, as ``gene/NUMBER``.
    """
    from markupsafe import Markup

    view, rows = page_view(data), drawn_cells(data.clusters)
    style, script = _asset("report.css"), _asset("report.js")
    for part, is_used in (("samples.js", view["samples"]), ("served.js", is_served)):
        if is_used:
            script = script.replace(_READY, _asset(part) + _READY)
    template = _environment().from_string(_asset("template.html.j2"))
    return template.render(
        data=data,
        **view,
        n_drawn=len(rows),
        payload=plot_payload(data, rows, is_served=is_served),
        style=Markup(style),
        script=Markup(script),
        policy=_content_security_policy(style=style, script=script, is_served=is_served),
    )


def write_report(data: ReportData, path: Path | str, *, overwrite: bool = False) -> None:
    """Render a report and write it whole or not at all, as UTF-8.

    Raises ``InputUnusable`` if the file exists and ``overwrite`` is false, or it cannot be written.
    """
    page = render_report(data).encode("utf-8", errors="backslashreplace")  # file names may hold undecodable bytes
    check_ending(Path(path), REPORT, error=InputUnusable)
    with output(Target(Path(path)), overwrite=overwrite) as part:
        part.write_bytes(page)


def _environment() -> "Environment":
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(_asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    written = ("percent", "count", "number", "p_value", "fields", "breakable")
    environment.filters |= {name: getattr(formats, name) for name in written}
    environment.filters["split_at_term"] = split_at_term
    return environment


def _content_security_policy(*, style: str, script: str, is_served: bool) -> str:
    """Nothing may be loaded, but genes from the server of the page; of inline style and script only these two."""
    connect = "connect-src 'self'; " if is_served else ""
    return (
        f"default-src 'none'; {connect}img-src data:; style-src '{_source_hash(style)}'; "
        f"script-src '{_source_hash(script)}'; base-uri 'none'; form-action 'none'"
    )


def _source_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _asset(name: str) -> str:
    """Text of a part of the page, with the line ends that a browser sees."""
    return files("cellmodel.pl.report.page").joinpath(name).read_text(encoding="utf-8").replace("\r\n", "\n")
