"""The report of a clustering run: one self-contained HTML file."""

from cellmodel.report.data import (
    CoverageSummary,
    InputSummary,
    KChoice,
    KnowledgeEffect,
    ReportData,
    ReportExpression,
    ReportMarker,
    ReportName,
    ReportWord,
)
from cellmodel.report.render import render_report, write_report

__all__ = [
    "CoverageSummary",
    "InputSummary",
    "KChoice",
    "KnowledgeEffect",
    "ReportData",
    "ReportExpression",
    "ReportMarker",
    "ReportName",
    "ReportWord",
    "render_report",
    "write_report",
]
