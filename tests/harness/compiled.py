"""Cython modules that a test builds against the installed flowcore."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.served import environment

SETUP = """
from Cython.Build import cythonize
from setuptools import Extension, setup
import flowcore
setup(name="x", version="0", ext_modules=cythonize(
    [Extension("{name}", ["{name}.pyx"], include_dirs=[flowcore.get_include()])]))
"""


def compiled(source: Path, where: Path) -> Any:
    """The module of a .pyx, built in `where`; skips the test if there is nothing to build with."""
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    shutil.copy(source, where)
    done = subprocess.run(
        [sys.executable, "-c", SETUP.format(name=source.stem), "-q", "build_ext", "--inplace"],
        cwd=where, env=environment(), capture_output=True, text=True, timeout=110, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = where.glob("*.so")
    spec = importlib.util.spec_from_file_location(source.stem, built)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
