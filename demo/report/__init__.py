"""A page that shows what a sync loaded: self-contained, without script, for screens of any width and for print."""

from demo.report.figures import read
from demo.report.page import write

__all__ = ["read", "write"]
