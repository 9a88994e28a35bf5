"""Who may import whom, as ARCHITECTURE.md draws it: every import and cimport is parsed."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.source_tree

# A package may import itself and whatever has a smaller number.
LAYERS = {
    "kernel": 2.0,
    "loop": 3.0,
    "net": 3.1,
    "wire": 3.2,
    **dict.fromkeys(["http", "ws", "rpc", "mq", "redis"], 4.0),
    **dict.fromkeys(["discovery", "db", "stream", "ml", "scripting", "health", "logging"], 5.0),
    **dict.fromkeys(["metrics.export", "tracing.export"], 5.0),
    **dict.fromkeys(["zoo", "console", "cli", "__main__"], 6.0),
}
SIBLINGS_MAY_MEET = {5.0, 6.0}
# Any layer may import these; they stand on each other and, for its cells, on the kernel.
LEAVES = {"errors", "config", "resilience", "metrics", "tracing", "_paths", "_version"}
LEAF_REACH = {"kernel"}
NO_IO = {"socket", "ssl", "select", "selectors", "subprocess", "http", "urllib", "socketserver"}

PY_SUFFIXES = {".py", ".pyi"}
CYTHON_SUFFIXES = {".pyx", ".pxd"}


def unit(module: str) -> str:
    """The row of the table that flowcore.<module> belongs to; "" is the package itself."""
    parts = module.split(".")[1:]
    if len(parts) > 1 and parts[1].startswith("export"):
        return f"{parts[0]}.export"
    return parts[0] if parts else ""


def absolute(module: str, is_package: bool, level: int, name: str) -> str:
    """The full name of a relative import seen in `module`."""
    if not level:
        return name
    parts = module.split(".")
    keep = len(parts) - level + is_package
    return ".".join([*parts[:keep], *([name] if name else [])])


def python_imports(source: str) -> Iterator[tuple[int, str, list[str]]]:
    """(level, module, names) of each import; names is empty for `import module`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield 0, alias.name, []
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or "", [alias.name for alias in node.names]


CYTHON_FROM = re.compile(
    r"^[ \t]*from[ \t]+(\.*)([\w.]*)[ \t]+c?import[ \t]*(\([^)]*\)|[^\n#]*)", re.MULTILINE
)
CYTHON_PLAIN = re.compile(r"^[ \t]*c?import[ \t]+([^\n#]+)", re.MULTILINE)


def cython_imports(source: str) -> Iterator[tuple[int, str, list[str]]]:
    source = source.replace("\\\n", " ")
    for dots, name, names in CYTHON_FROM.findall(source):
        listed = [part.split()[0] for part in names.strip("() \n").split(",") if part.split()]
        yield len(dots), name, listed
    for names in CYTHON_PLAIN.findall(source):
        for part in names.split(","):
            yield 0, part.split()[0], []


def targets(path: Path, module: str, source: str) -> Iterator[str]:
    """Full names of what the file imports; `from flowcore import x` counts as flowcore.x."""
    cython = path.suffix in CYTHON_SUFFIXES
    is_package = path.stem == "__init__"
    for level, name, names in cython_imports(source) if cython else python_imports(source):
        full = absolute(module, is_package, level, name)
        if full in ("flowcore", "flowcore.metrics", "flowcore.tracing") and names:
            for each in names:
                yield f"{full}.{each}"
        else:
            yield full


def may_import(importer: str, imported: str) -> bool:
    """Whether the table lets row `importer` import row `imported`."""
    if importer in ("", imported) or imported in LEAVES:
        return True
    if importer in LEAVES:
        return imported in LEAF_REACH
    if imported not in LAYERS or importer not in LAYERS:
        return False
    ours, theirs = LAYERS[importer], LAYERS[imported]
    return theirs < ours or (theirs == ours and ours in SIBLINGS_MAY_MEET)


def violations(name: str, source: str) -> list[str]:
    """What is wrong with the file `name`, a path under the root such as flowcore/net/tls.py."""
    path = Path(name)
    parts = path.with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    importer = unit(module)
    found = []
    if importer and importer not in LAYERS and importer not in LEAVES:
        found.append(f"{name}: {importer} has no place in the table of layers")
    for target in targets(path, module, source):
        if target.split(".")[0] == "flowcore":
            if not may_import(importer, unit(target)):
                found.append(f"{name}: {importer} may not import {target}")
        elif importer in LEAVES and target.split(".")[0] in NO_IO:
            found.append(f"{name}: a leaf does no I/O, yet imports {target}")
    declares = path.parent.name == "kernel" and re.fullmatch(r"fc_\w+\.pxd", path.name)
    if path.suffix in CYTHON_SUFFIXES and not declares:
        if re.search(r"cdef\s+(public\s+)?extern\s+from\s+[\"']fc/", source):
            found.append(f"{name}: only kernel/fc_*.pxd declare what is in fc/")
        if re.search(r"#\s*include\s+[\"<]fc/", source):
            found.append(f"{name}: includes a header of csrc behind Cython's back")
    return found


def c_violations(name: str, source: str) -> list[str]:
    """csrc/src and csrc/include see fc/ and the system; programs also the headers beside them."""
    inner = name.startswith("csrc/src/")
    program = not inner and not name.startswith("csrc/include/")
    found = []
    for open_mark, header in re.findall(r"^[ \t]*#[ \t]*include[ \t]*([<\"])([^>\"]+)", source,
                                        re.MULTILINE):
        if header.endswith("Python.h") or header.startswith(("cpython/", "numpy/")):
            found.append(f"{name}: csrc knows nothing of Python, yet includes {header}")
        elif open_mark == "<" and header.startswith("fc/"):
            found.append(f"{name}: own headers stand in quotes: {header}")
        elif open_mark == '"' and not header.startswith("fc/"):
            private = inner and re.fullmatch(r"\w+_(internal|private)\.h", header)
            if not (program or private):
                found.append(f"{name}: includes {header}, which is neither fc/ nor the system's")
    return found


def flowcore_files(root: Path) -> list[Path]:
    suffixes = PY_SUFFIXES | CYTHON_SUFFIXES
    return sorted(p for p in (root / "flowcore").rglob("*") if p.suffix in suffixes)


def test_flowcore_imports_downwards_only(root: Path) -> None:
    files = flowcore_files(root)
    assert files
    found = [
        problem
        for path in files
        for problem in violations(path.relative_to(root).as_posix(), path.read_text())
    ]
    assert not found, "\n".join(found)


def test_csrc_includes_itself_and_the_system_only(root: Path) -> None:
    files = sorted(p for p in (root / "csrc").rglob("*") if p.suffix in {".c", ".h"})
    assert files
    found = [
        problem
        for path in files
        for problem in c_violations(path.relative_to(root).as_posix(), path.read_text())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("flowcore/kernel/x.pyx", "from flowcore.loop import run"),
        ("flowcore/kernel/x.pyx", "from ..loop.y cimport Z"),
        ("flowcore/kernel/x.pyx", "def f():\n  from flowcore.net import listen"),
        ("flowcore/kernel/x.pxd", "cimport flowcore.http.request as r"),
        ("flowcore/kernel/x.pyx", 'cdef extern from "fc/err.h":\n  pass'),
        ("flowcore/loop/fc_x.pxd", "cdef extern from 'fc/err.h' nogil:\n  pass"),
        ("flowcore/net/x.pyx", 'cdef extern from *:\n  """\n  #include "fc/err.h"\n  """'),
        ("flowcore/loop/x.py", "import flowcore.net.tls"),
        ("flowcore/net/x.py", "from flowcore import wire"),
        ("flowcore/http/x.py", "from ..ws import frame"),
        ("flowcore/ws/__init__.py", "from ..http import upgrade"),
        ("flowcore/rpc/x.pyx", "from flowcore.mq.queue cimport (\n  A,\n  B,\n)"),
        ("flowcore/redis/x.py", "def late():\n    import flowcore.http.client"),
        ("flowcore/db/x.py", "from flowcore.cli import main"),
        ("flowcore/errors.py", "from flowcore.loop import run"),
        ("flowcore/config/x.py", "import socket"),
        ("flowcore/http/x.py", "from flowcore import get_include"),
        ("flowcore/http/x.py", "from flowcore.metrics import exporters"),
        ("flowcore/unheard_of/x.py", "import os"),
    ],
)
def test_a_violation_is_caught(name: str, source: str) -> None:
    assert len(violations(name, source)) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("flowcore/__init__.py", "from .http import Server\nfrom .cli import main"),
        ("flowcore/kernel/fc_err.pxd", 'cdef extern from "fc/err.h":\n  pass'),
        ("flowcore/kernel/x.pyx", "from .fc_err cimport a\nfrom flowcore.errors import E"),
        ("flowcore/kernel/x.pyx", "cimport cython\nfrom cpython.bytes cimport PyBytes_GET_SIZE"),
        ("flowcore/wire/x.py", "from flowcore.net import listen\nimport flowcore.kernel.ring"),
        ("flowcore/rpc/x.py", "from ..wire import stream\nfrom .call import Call"),
        ("flowcore/http/x.py", "from ..metrics.registry import Counter"),
        ("flowcore/metrics/export_otlp.py", "import flowcore.http.client\nimport socket"),
        ("flowcore/cli/x.py", "from flowcore.zoo import y\nfrom flowcore import http"),
        ("flowcore/http/x.py", "import http.client\nimport socket"),
    ],
)
def test_what_is_allowed_passes(name: str, source: str) -> None:
    assert violations(name, source) == []


@pytest.mark.parametrize(
    ("name", "source", "count"),
    [
        ("csrc/src/x.c", "#include <Python.h>\n", 1),
        ("csrc/tests/test_x.c", '#  include "Python.h"\n', 1),
        ("csrc/src/x.c", '#include "x.h"\n#include "../include/fc/x.h"\n', 2),
        ("csrc/include/fc/x.h", "#include <fc/y.h>\n", 1),
        ("csrc/src/x.c", '#include "fc/x.h"\n#include "x_internal.h"\n#include <errno.h>\n', 0),
        ("csrc/tests/test_x.c", '#include "check.h"\n', 0),
    ],
)
def test_includes_of_csrc_are_judged(name: str, source: str, count: int) -> None:
    assert len(c_violations(name, source)) == count
