"""The report of an experiment: one self-contained page, and the same as Markdown with its plots beside it."""

from edgekit.experiment.report.write import write_report

__all__ = ["write_report"]
