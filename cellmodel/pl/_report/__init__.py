"""The report of clusters: one self-contained HTML file."""

__all__ = ["collect", "style"]
