"""``flowcore serve module:app``."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowcore.http import App

__all__ = ["add_parser"]

_EPILOG = """\
examples:
  flowcore serve hello:app                     app in hello.py, on http://127.0.0.1:8000
  flowcore serve shop.web:app --port 80 --host 0.0.0.0 --workers 4
  flowcore serve hello:make_app --factory      call make_app() for the application
  flowcore serve hello:app --limit max_body_bytes=1000000 --limit idle_timeout_s=5

SIGTERM or Control-C stops accepting, finishes what is in flight, and exits 0;
a second one cuts it short.
"""


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "serve",
        help="serve an application over HTTP",
        description="Serves a flowcore.http application until SIGTERM or Control-C.",
        epilog=_EPILOG + "\n" + _limits_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", metavar="module:app", help="where the App object is")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address or name (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="0: any free one (default: %(default)s)"
    )
    parser.add_argument("--unix", metavar="PATH", help="listen on a Unix socket instead")
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes (default: %(default)s)"
    )
    parser.add_argument("--access-log", action="store_true", help="log a line for each request")
    parser.add_argument("--factory", action="store_true", help="call the target for the App")
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a limit or time-out from the list below; may be repeated",
    )
    parser.set_defaults(run=_run)


def _limits_help() -> str:
    from flowcore.http.config import ServerConfig

    lines = ["limits and time-outs (bytes, seconds):"]
    for field in dataclasses.fields(ServerConfig):
        lines.append(f"  {field.name:<28} {field.default}")
    return "\n".join(lines)


def _run(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    access = logging.getLogger("flowcore.access")
    access.propagate = False
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    access.addHandler(handler)
    from flowcore.errors import InvalidArgument
    from flowcore.http.workers import WorkerStartError
    from flowcore.net import CannotListen

    # What is wrong inside the application is its own, and a traceback says where.
    try:
        limits = _limits(options.limit)
        app = _load(options.target, options.factory)
    except _Refused as exc:
        return _fail(exc)
    try:
        app.run(
            options.host,
            options.port,
            unix=options.unix,
            workers=options.workers,
            access_log=options.access_log,
            **limits,
        )
    except InvalidArgument as exc:
        return _fail(exc)
    except CannotListen as exc:
        return _fail(exc.strerror)
    except WorkerStartError as exc:
        return _fail(exc)
    return 0


def _fail(why: object) -> int:
    print(f"flowcore serve: {why}", file=sys.stderr)
    return 1


class _Refused(Exception):
    """The command line asks for what cannot be done; the text says why."""


def _load(target: str, factory: bool) -> App:
    from flowcore.http import App

    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute) or module_name.startswith("."):
        raise _Refused(f"{target!r} is not of the form module:app")
    # As `python -m` does: what lies in the current directory can be served.
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not (module_name + ".").startswith(exc.name + "."):
            raise
        raise _Refused(f"there is no module {exc.name!r} here or on sys.path") from exc
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise _Refused(f"module {module_name!r} has no {attribute!r}")
        found = getattr(found, part)
    if factory:
        found = found()
    if not isinstance(found, App):
        hint = "; is it a factory? then add --factory" if callable(found) else ""
        raise _Refused(f"{target} is a {type(found).__name__}, not a flowcore.http.App{hint}")
    return found


def _limits(given: list[str]) -> dict[str, Any]:
    from flowcore.errors import InvalidArgument
    from flowcore.http import ServerConfig

    known = {field.name: field for field in dataclasses.fields(ServerConfig)}
    limits: dict[str, Any] = {}
    for entry in given:
        name, sign, text = entry.partition("=")
        if name not in known or not sign:
            raise _Refused(f"--limit {entry!r}: expected NAME=VALUE, with a name from --help")
        try:
            whole = isinstance(known[name].default, int)
            limits[name] = int(text) if whole else float(text)
        except ValueError:
            raise _Refused(f"--limit {entry!r}: {text!r} is not a number") from None
    try:
        ServerConfig(**limits)
    except InvalidArgument as exc:
        raise _Refused(f"--limit: {exc}") from None
    return limits
