"""The ``flowcore`` command."""

from flowcore.cli.main import main

__all__ = ["main"]
