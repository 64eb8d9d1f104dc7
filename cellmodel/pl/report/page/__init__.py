"""Second stage of the report: the values laid out and printed as one HTML page."""

__all__ = ["formats", "payload", "render", "samples", "tree", "view"]
