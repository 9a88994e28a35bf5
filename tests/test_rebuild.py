"""setup.py rebuilds and relinks after an edit: the real setup.py on a core of two small files."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.source_tree, pytest.mark.slow]

HEADER = """\
#ifndef FC_PROBE_H
#define FC_PROBE_H
#define FC_PROBE_HEADER 1
int fc_probe(void);
int fc_probe_header(void);
#endif
"""
SOURCE = """\
#include "fc/probe.h"
int fc_probe(void) { return 10; }
int fc_probe_header(void) { return FC_PROBE_HEADER; }
"""
PXD = """\
cdef extern from "fc/probe.h":
  int FC_PROBE_HEADER
  int fc_probe()
  int fc_probe_header()

cdef enum:
  IN_PXD = 100
"""
PYX = """\
from flowcore.kernel.fc_probe cimport FC_PROBE_HEADER, IN_PXD, fc_probe, fc_probe_header

def values():
  return (FC_PROBE_HEADER, fc_probe_header(), fc_probe(), IN_PXD)
"""


class Tree:
    """A copy of the build with one C file, one header, one .pxd and one .pyx."""

    def __init__(self, path: Path, root: Path) -> None:
        self.path = path
        for name in ("setup.py", "pyproject.toml", "LICENSE"):
            shutil.copy(root / name, path / name)
        self.write("README.md", "probe\n")
        self.write("csrc/sources.txt", "src/probe.c\n")
        self.write("csrc/include/fc/probe.h", HEADER)
        self.write("csrc/src/probe.c", SOURCE)
        self.write("flowcore/__init__.py", "")
        self.write("flowcore/_version.py", '__version__ = "0"\n')
        self.write("flowcore/kernel/__init__.py", "")
        self.write("flowcore/kernel/fc_probe.pxd", PXD)
        self.write("flowcore/kernel/probe.pyx", PYX)

    def write(self, name: str, text: str) -> None:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.path / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))
        # Later than anything built so far, whatever the file system's clock resolves.
        later = time.time() + 0.01
        os.utime(self.path / name, (later, later))

    def build(self, **env: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
        kept = {key: value for key, value in os.environ.items() if not key.startswith("FC_")}
        return subprocess.run(
            command, cwd=self.path, env=kept | env, capture_output=True, text=True, timeout=100
        )

    def built(self, **env: str) -> "Tree":
        result = self.build(**env)
        assert result.returncode == 0, result.stdout + result.stderr
        return self

    def values(self) -> list[int]:
        """(the header's macro in the .pyx, the same in the core, the core's .c, the .pxd)."""
        code = "from flowcore.kernel import probe; print(*probe.values())"
        out = subprocess.check_output([sys.executable, "-c", code], cwd=self.path, text=True)
        return [int(word) for word in out.split()]

    def products(self) -> dict[Path, int]:
        found = [*self.path.rglob("*.so"), *self.path.rglob("*.a"), *self.path.rglob("*.o")]
        return {path: path.stat().st_mtime_ns for path in found}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Tree:
    pytest.importorskip("Cython")
    return Tree(tmp_path_factory.mktemp("tree"), root).built()


def test_each_kind_of_edit_reaches_the_extension(tree: Tree) -> None:
    macro, in_core, in_source, in_pxd = tree.values()

    tree.edit("csrc/src/probe.c", f"return {in_source};", "return 11;")
    assert tree.built().values() == [macro, in_core, 11, in_pxd]

    tree.edit("csrc/include/fc/probe.h", f"FC_PROBE_HEADER {macro}", "FC_PROBE_HEADER 2")
    assert tree.built().values() == [2, 2, 11, in_pxd]

    tree.edit("flowcore/kernel/fc_probe.pxd", f"IN_PXD = {in_pxd}", "IN_PXD = 101")
    assert tree.built().values() == [2, 2, 11, 101]


def test_an_edit_to_the_core_relinks_without_compiling_the_extension(tree: Tree) -> None:
    def state() -> tuple[int, int]:
        (extension,) = (tree.path / "flowcore").rglob("*.so")
        (obj,) = (tree.path / "build").glob("temp*/build/cython*/flowcore/kernel/probe.o")
        return obj.stat().st_mtime_ns, extension.stat().st_mtime_ns

    tree.built()
    compiled, linked = state()
    tree.edit("csrc/src/probe.c", "int fc_probe(void)", "int fc_probe(void) ")
    tree.built()
    assert state()[0] == compiled
    assert state()[1] > linked


def test_nothing_edited_nothing_built(tree: Tree) -> None:
    before = tree.built().products()
    assert any(path.suffix == ".a" for path in before)
    assert tree.built().products() == before


def test_debug_and_release_replace_each_other_in_place(tree: Tree) -> None:
    def inplace() -> bytes:
        (path,) = (tree.path / "flowcore/kernel").glob("*.so")
        return path.read_bytes()

    release = (tree.built(), inplace())[1]
    debug = (tree.built(FC_DEBUG="1"), inplace())[1]
    assert debug != release
    tree.built()
    assert inplace() == release


def test_a_source_taken_off_the_list_leaves_the_library(tree: Tree) -> None:
    tree.write("csrc/src/extra.c", "int fc_extra(void);\nint fc_extra(void) { return 1; }\n")
    tree.edit("csrc/sources.txt", "src/probe.c\n", "src/probe.c\nsrc/extra.c\n")
    (archive,) = {path for path in tree.built().products() if path.suffix == ".a"} & set(
        tree.path.glob("build/temp*/*.a")
    )
    assert b"fc_extra" in archive.read_bytes()
    tree.edit("csrc/sources.txt", "src/extra.c\n", "")
    tree.built()
    assert b"fc_extra" not in archive.read_bytes()


def test_a_missing_source_is_named(tree: Tree) -> None:
    tree.edit("csrc/sources.txt", "src/probe.c\n", "src/probe.c\nsrc/absent.c\n")
    result = tree.build()
    tree.edit("csrc/sources.txt", "src/absent.c\n", "")
    assert result.returncode != 0
    assert "csrc/src/absent.c" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_cython_warning_fails_the_build(tree: Tree) -> None:
    tree.edit("flowcore/kernel/probe.pyx", PYX, PYX + "\ndef bad():\n  cdef int x\n  return x\n")
    result = tree.build()
    tree.write("flowcore/kernel/probe.pyx", PYX)
    assert result.returncode != 0
    assert "referenced before assignment" in result.stdout + result.stderr
