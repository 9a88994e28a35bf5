"""Builds the example beside itself: `python examples/cimport_queue/setup.py build_ext --inplace`.

flowcore's .pxd files are found through the installed package, its C headers by get_include().
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

import flowcore

os.chdir(Path(__file__).parent)
setup(
    name="tick-feed",
    version="0",
    ext_modules=cythonize(
        [Extension("tick_feed", ["tick_feed.pyx"], include_dirs=[flowcore.get_include()])],
        build_dir="build",
    ),
)
