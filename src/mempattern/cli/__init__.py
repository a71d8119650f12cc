"""The commands: parse, call, print."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
