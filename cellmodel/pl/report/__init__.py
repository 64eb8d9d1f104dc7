"""The report of clusters: one self-contained HTML file, or a page of this machine.

``collect`` gathers plain values and tables from the cells; ``page`` prints them.
"""

__all__ = ["collect", "page", "serve", "write"]
