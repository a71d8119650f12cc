"""The trace file (`.mpt`), written and read. docs/trace.md describes its tables."""

from mempattern.trace.reader import TraceReader
from mempattern.trace.writer import TraceWriter

__all__ = ["TraceReader", "TraceWriter"]
