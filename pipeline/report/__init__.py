"""Reports: figures, tables and text from plain results, as one page without a network."""

from logitbank.pipeline.report.page import render_page, write_report
from logitbank.pipeline.report.reading import find_mistakes, read_run, read_store
from logitbank.pipeline.report.results import (
    Mistake,
    Report,
    StoreOnDisk,
    StudentRun,
    TeacherCost,
    Throughput,
)
from logitbank.pipeline.report.tables import accuracy_table, table_lines

__all__ = [
    "Mistake",
    "Report",
    "StoreOnDisk",
    "StudentRun",
    "TeacherCost",
    "Throughput",
    "accuracy_table",
    "find_mistakes",
    "read_run",
    "read_store",
    "render_page",
    "table_lines",
    "write_report",
]
