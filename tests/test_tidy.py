"""Taste as a test: line length, blanks, the list of sources, and no mutable state in csrc."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.source_tree

WIDTH = 100
SUFFIXES = {".py", ".pyi", ".pyx", ".pxd"}
TREES = {
    "csrc": {".c", ".h", ".py"},
    "bench": {".c", ".h", ".py"},
    # Any .c here is Cython's.
    "flowcore": SUFFIXES,
    "tests": SUFFIXES,
    "examples": SUFFIXES,
}
# nm's letters for symbols in writable sections: data, bss, small data, common.
WRITABLE = set("dDbBsSgGC")


def source_files(root: Path) -> list[Path]:
    inside = [
        path
        for tree, suffixes in TREES.items()
        for path in (root / tree).rglob("*")
        if path.suffix in suffixes
    ]
    return sorted([root / "setup.py", *inside])


def untidy(text: str) -> list[str]:
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > WIDTH:
            found.append(f"{number}: {len(line)} columns")
        if "\t" in line:
            found.append(f"{number}: a tab")
        if line != line.rstrip():
            found.append(f"{number}: blanks at the end")
    if text and not text.endswith("\n"):
        found.append("no newline at the end of the file")
    return found


def listed_sources(root: Path) -> list[str]:
    lines = (line.strip() for line in (root / "csrc/sources.txt").read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def header_of(source: Path, include: Path) -> Path | None:
    """http1_parse.c belongs to http1.h: the longest part of the name that is a header."""
    words = source.stem.split("_")
    for count in range(len(words), 0, -1):
        header = include / ("_".join(words[:count]) + ".h")
        if header.is_file():
            return header
    return None


def writable_symbols(source: Path, include: list[Path], out: Path) -> list[str]:
    """Names that the object of `source` keeps in writable memory."""
    # Without position independence a constant table of pointers stays in .rodata.
    command = ["cc", "-std=c11", "-D_GNU_SOURCE", "-O1", "-fno-pic", "-fno-pie", "-c"]
    flags = [f"-I{path}" for path in include]
    obj = out / (source.stem + ".o")
    subprocess.run([*command, *flags, str(source), "-o", str(obj)], check=True)
    lines = subprocess.check_output(["nm", "-P", str(obj)], text=True).splitlines()
    symbols = [line.split()[:2] for line in lines if len(line.split()) > 1]
    return [name for name, letter in symbols if letter in WRITABLE]


needs_cc = pytest.mark.skipif(
    not (shutil.which("cc") and shutil.which("nm")), reason="needs a C compiler and nm"
)


def test_lines_are_short_and_clean(root: Path) -> None:
    found = [
        f"{path.relative_to(root)}:{problem}"
        for path in source_files(root)
        for problem in untidy(path.read_text())
    ]
    assert not found, "\n".join(found)


def test_untidiness_is_seen() -> None:
    assert untidy("x" * WIDTH + "\n") == []
    assert untidy("x" * (WIDTH + 1) + "\n") == [f"1: {WIDTH + 1} columns"]
    assert untidy("a\n\tb\n") == ["2: a tab"]
    assert untidy("a \nb") == ["1: blanks at the end", "no newline at the end of the file"]


def test_sources_txt_lists_each_source_once(root: Path) -> None:
    listed = listed_sources(root)
    assert listed == sorted(set(listed))
    assert listed == sorted(f"src/{path.name}" for path in (root / "csrc/src").glob("*.c"))


def included(path: Path) -> set[str]:
    """Names under fc/ that a source includes, also by way of the private headers beside it."""
    text = path.read_text()
    names = set(re.findall(r'#include "fc/([^"]+)"', text))
    for private in re.findall(r'#include "(\w+\.h)"', text):
        names |= included(path.parent / private)
    return names


def test_each_source_has_a_header_and_includes_it(root: Path) -> None:
    found = []
    for source in sorted((root / "csrc/src").glob("*.c")):
        header = header_of(source, root / "csrc/include/fc")
        if not header:
            found.append(f"{source.name} belongs to no header of csrc/include/fc")
        elif not included(source) & {header.name, f"{header.stem}_backend.h"}:
            found.append(f"{source.name} does not include fc/{header.name}")
    assert not found, "\n".join(found)


@needs_cc
def test_csrc_keeps_no_mutable_globals(root: Path, tmp_path: Path) -> None:
    include = [root / "csrc/include", root / "csrc/src"]
    found = [
        f"{name}: {symbol}"
        for name in listed_sources(root)
        for symbol in writable_symbols(root / "csrc" / name, include, tmp_path)
    ]
    assert not found, "\n".join(found)


@needs_cc
def test_mutable_globals_are_seen(tmp_path: Path) -> None:
    source = tmp_path / "state.c"
    source.write_text(
        "int counter = 1;\n"
        "static int hidden;\n"
        "static _Thread_local int slot;\n"
        "static const char *const names[] = {\"a\", \"b\"};\n"
        "static int once(void) { static int calls; return ++calls; }\n"
        "int use(int i) { return slot += i, ++hidden + counter + names[i & 1][0] + once(); }\n"
    )
    symbols = {name.split(".")[0] for name in writable_symbols(source, [], tmp_path)}
    assert symbols == {"counter", "hidden", "slot", "calls"}
