"""Downloads: HTTP client, retries, resumable transfers."""

__all__ = ["client", "download", "retry"]
