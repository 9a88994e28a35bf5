"""Public names are explicit: __all__ in every package, a stub for every public .pyx."""

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import flowcore

PACKAGES = sorted(
    info.name for info in pkgutil.walk_packages(flowcore.__path__, "flowcore.") if info.ispkg
)


@pytest.mark.parametrize("name", ["flowcore", *PACKAGES])
def test_all_is_explicit_sorted_and_resolves(name: str) -> None:
    package = importlib.import_module(name)
    assert "__all__" in vars(package), f"{name} has no __all__"
    names = list(package.__all__)
    assert names == sorted(set(names)), f"{name}.__all__ is unsorted or repeats a name"
    missing = [each for each in names if not hasattr(package, each)]
    assert not missing, f"{name}.__all__ names {missing}, which do not exist"


def assigned(nodes: list[ast.stmt]) -> set[str]:
    """Public names that a module's top-level statements define; imports do not count."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {each.id for each in node.targets if isinstance(each, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.If):
            names |= assigned(node.body) | assigned(node.orelse)
    return {name for name in names if not name.startswith("_")}


CYTHON_NAME = re.compile(
    r"^(?:(?:async\s+)?def\s+(\w+)|class\s+(\w+)|cdef\s+(?:public\s+)?class\s+(\w+)"
    r"|cpdef\s+(?:enum\s+(\w+)|[^=(]*?(\w+)\s*\()|(\w+)\s*(?::[^=\n]*)?=(?!=))",
    re.MULTILINE,
)
STRINGS = re.compile(r'"""(?:.|\n)*?"""' + r"|'''(?:.|\n)*?'''")


def cython_names(source: str) -> set[str]:
    """Public names that a .pyx gives to Python, or its __all__ where it has one."""
    source = STRINGS.sub("''", source)
    explicit = re.search(r"^__all__\s*=\s*([\[(][^\])]*[\])])", source, re.MULTILINE)
    if explicit:
        return set(ast.literal_eval(explicit[1]))
    found = {name for groups in CYTHON_NAME.findall(source) for name in groups if name}
    return {name for name in found if not name.startswith("_")}


def public_pyx(root: Path) -> list[Path]:
    return sorted(p for p in (root / "flowcore").rglob("*.pyx") if not p.name.startswith("_"))


@pytest.mark.source_tree
def test_stubs_name_what_the_extensions_define(root: Path) -> None:
    problems = []
    for pyx in public_pyx(root):
        stub = pyx.with_suffix(".pyi")
        if not stub.is_file():
            problems.append(f"{pyx.relative_to(root)} has no .pyi")
            continue
        ours, theirs = cython_names(pyx.read_text()), assigned(ast.parse(stub.read_text()).body)
        if ours != theirs:
            problems.append(
                f"{stub.relative_to(root)}: missing {sorted(ours - theirs)}, "
                f"not in the .pyx {sorted(theirs - ours)}"
            )
    assert not problems, "\n".join(problems)


@pytest.mark.source_tree
def test_stubs_name_what_the_built_modules_hold(root: Path) -> None:
    problems = []
    for pyx in public_pyx(root):
        stub = pyx.with_suffix(".pyi")
        name = ".".join(pyx.relative_to(root).with_suffix("").parts)
        module = importlib.import_module(name)
        wanted = assigned(ast.parse(stub.read_text()).body) if stub.is_file() else set()
        problems += [f"{name} lacks {each}" for each in sorted(wanted) if not hasattr(module, each)]
    assert not problems, "\n".join(problems)


def test_cython_names_are_read() -> None:
    source = '''
"""Docs with
def not_this(): pass
"""
import os
LIMIT = 3
_hidden = 4
typed: int = 5
cdef int private_variable = 6
cdef void private(int x):
  local = 7
def plain(a=1): pass
async def waits(): pass
cpdef object both(int x): pass
cpdef enum Kind:
  A
cdef class Stream:
  def method(self): pass
cdef class _Inner: pass
class Pure: pass
'''
    expected = {"LIMIT", "typed", "plain", "waits", "both", "Kind", "Stream", "Pure"}
    assert cython_names(source) == expected
    assert cython_names('__all__ = [\n  "a",\n  "b",\n]\ndef c(): pass') == {"a", "b"}


def test_get_include_holds_the_headers() -> None:
    headers = Path(flowcore.get_include()) / "fc"
    assert "fc_strerror" in (headers / "err.h").read_text()
