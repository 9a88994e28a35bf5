"""The command's first level: its subcommands and version."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from flowcore._version import __version__
from flowcore.cli import serve

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, or 1 after an error, 2 for bad usage."""
    parser = argparse.ArgumentParser(
        prog="flowcore",
        description="Latency-sensitive Python services on one compiled core.",
        epilog="'flowcore serve --help' explains serving.",
    )
    parser.add_argument("--version", action="version", version=f"flowcore {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    serve.add_parser(commands)
    options = parser.parse_args(arguments)
    return int(options.run(options))
