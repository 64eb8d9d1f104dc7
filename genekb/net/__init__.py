"""Downloads: HTTP client, retry policy, resumable download, errors of the Hub."""

__all__ = ["client", "download", "retry"]
