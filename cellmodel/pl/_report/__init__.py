"""The report of clusters: one self-contained HTML file, or a page of this machine."""

__all__ = ["collect", "serve", "style"]
