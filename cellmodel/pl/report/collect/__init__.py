"""First stage of the report: values and tables from the cells and their records."""

__all__ = ["data", "frames", "genes", "layouts", "samples", "tables"]
