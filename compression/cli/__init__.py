"""The command line: `options`, the `actions` they ask for, what is read (`source_file`) and shown (`state_tables`)."""

from compression.cli.options import main

__all__ = ["main"]
