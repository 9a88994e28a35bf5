"""Builds csrc once as a static library and one extension for each .pyx.

The environment chooses the variant; each keeps its own directories under build/:
  FC_DEBUG=1     checks on, -O0 -g
  FC_COVERAGE=1  Cython line tracing and gcov counters in csrc
  FC_LTO=1       link-time optimisation
  FC_SKIP_EXT=1  no C at all, for the editable install that `make build` does before building
"""

import hashlib
import multiprocessing
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import SetupError

JOBS = 2
INCLUDE = Path("csrc/include")
SOURCES_TXT = Path("csrc/sources.txt")


def env_flag(name):
    return os.environ.get(name, "0") not in ("", "0")


DEBUG = env_flag("FC_DEBUG")
COVERAGE = env_flag("FC_COVERAGE")
LTO = env_flag("FC_LTO")
SKIP_EXT = env_flag("FC_SKIP_EXT")
VARIANT = "-".join(
    tag for tag, on in (("debug", DEBUG), ("coverage", COVERAGE), ("lto", LTO)) if on
)

# wraparound stays off in debug builds too: code must not come to lean on negative indices.
DIRECTIVES = {
    "language_level": "3",
    "binding": False,
    "embedsignature": True,
    "embedsignature.format": "clinic",
    "wraparound": False,
    "cdivision": True,
    "boundscheck": DEBUG,
    "initializedcheck": DEBUG,
    "nonecheck": DEBUG,
    "linetrace": COVERAGE,
}

COMMON_FLAGS = ["-std=c11", "-fvisibility=hidden", "-Wall"]
if sys.platform == "linux":
    COMMON_FLAGS += ["-fno-plt", "-fno-semantic-interposition"]
if DEBUG or COVERAGE:
    COMMON_FLAGS += ["-O0", "-g", "-UNDEBUG"]
else:
    COMMON_FLAGS += ["-O3", "-g0", "-DNDEBUG"]
LINK_FLAGS = []
if COVERAGE:
    LINK_FLAGS += ["--coverage"]
if LTO:
    # Fat objects, since a plain `ar` cannot index slim ones.
    COMMON_FLAGS += ["-flto", "-ffat-lto-objects"]
    LINK_FLAGS += ["-flto", "-O3"]

CORE_FLAGS = [*COMMON_FLAGS, "-fPIC", "-Wextra", *(["--coverage"] if COVERAGE else [])]
# _GNU_SOURCE comes from pyconfig.h for the extensions and from here for csrc.
CORE_MACROS = [("_GNU_SOURCE", "1")]
TRACE_MACROS = [("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]


def core_sources():
    lines = (line.strip() for line in SOURCES_TXT.read_text().splitlines())
    return [f"csrc/{line}" for line in lines if line and not line.startswith("#")]


def files(directory, *patterns):
    return sorted(str(path) for pattern in patterns for path in Path(directory).rglob(pattern))


HEADERS = files(INCLUDE, "*.h") + files("csrc/src", "*.h")


def newer(paths, target):
    """Whether target is missing or older than any of paths."""
    if not os.path.exists(target):
        return True
    made = os.path.getmtime(target)
    return any(os.path.getmtime(path) > made for path in paths)


class BuildCore(build_clib):
    """Compiles what is stale, in parallel; a header makes every object stale."""

    def build_libraries(self, libraries):
        for name, info in libraries:
            self.build_core(name, info)

    def build_core(self, name, info):
        sources = info["sources"]
        missing = [path for path in sources if not os.path.exists(path)]
        if missing:
            raise SetupError(f"{SOURCES_TXT} lists files that do not exist: {', '.join(missing)}")
        objects = self.compiler.object_filenames(sources, output_dir=self.build_temp)
        shared = info["obj_deps"][""]
        stale = [
            src
            for src, obj in zip(sources, objects, strict=True)
            if self.force or newer([src, *shared], obj)
        ]
        # build_ext's own parallel mode shares a compiler object between threads in the same way.
        with ThreadPoolExecutor(JOBS) as pool:
            for _ in pool.map(lambda src: self.compile_one(src, info), stale):
                pass
        archive = self.compiler.library_filename(name, output_dir=self.build_clib)
        if stale or newer(objects + shared, archive):
            # `ar` only adds: without this a source taken off the list would stay in.
            Path(archive).unlink(missing_ok=True)
            self.compiler.create_static_lib(objects, name, output_dir=self.build_clib)

    def compile_one(self, source, info):
        self.compiler.compile(
            [source],
            output_dir=self.build_temp,
            macros=info["macros"],
            include_dirs=info["include_dirs"],
            extra_postargs=info["cflags"],
        )


class BuildExt(build_ext):
    """Builds the core first, cythonizes here rather than on import of setup.py, then compiles."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or JOBS

    def run(self):
        if not self.extensions:
            return
        # No-op if `build` ran it already; `build_ext` alone would link against a stale library.
        self.run_command("build_clib")
        core = self.get_finalized_command("build_clib")
        archive = core.compiler.library_filename("fccore", output_dir=core.build_clib)
        self.cythonize()
        for ext in self.extensions:
            # A dependency, so that the extension is looked at; an object, so that it is relinked.
            ext.depends = [*ext.depends, archive]
            ext.extra_objects = [archive]
        super().run()

    def build_extensions(self):
        # distutils recompiles an extension for any dependency; a newer core needs only the link.
        compile_all = self.compiler.compile

        def compile_stale(sources, output_dir=None, **options):
            objects = self.compiler.object_filenames(sources, output_dir=output_dir)
            for src, obj in zip(sources, objects, strict=True):
                if self.force or newer([src, *HEADERS, "setup.py"], obj):
                    compile_all([src], output_dir=output_dir, **options)
            return objects

        self.compiler.compile = compile_stale
        super().build_extensions()

    def cythonize(self):
        from Cython import __version__ as cython_version
        from Cython.Build import cythonize
        from Cython.Compiler import Options

        Options.warning_errors = True
        # cythonize() compares times only, so other directives need another directory. The
        # coverage plugin looks for the C file beside the .pyx.
        key = hashlib.sha256(repr((cython_version, DIRECTIVES)).encode()).hexdigest()[:8]
        fork = multiprocessing.get_start_method() == "fork"  # else Options would not be passed on
        made = cythonize(
            self.extensions,
            build_dir=None if COVERAGE else f"build/cython-{key}",
            compiler_directives=DIRECTIVES,
            nthreads=JOBS if fork else 0,
            force=bool(self.force),
            quiet=True,
        )
        for ext, new in zip(self.extensions, made, strict=True):
            ext.sources = new.sources
            ext.depends = sorted({*ext.depends, *new.depends})

    def copy_extensions_to_source(self):
        # distutils copies only what is newer, which would keep a debug build after a release one.
        build_py_cmd = self.get_finalized_command("build_py")
        for ext in self.extensions:
            inplace, built = map(Path, self._get_inplace_equivalent(build_py_cmd, ext))
            if inplace.exists() and inplace.stat().st_mtime != built.stat().st_mtime:
                inplace.unlink()
        super().copy_extensions_to_source()


class BuildPy(build_py):
    """Ships csrc's headers as flowcore/include, where flowcore.get_include() looks first."""

    def header_targets(self):
        if getattr(self, "editable_mode", False):
            return []
        root = Path(self.build_lib) / "flowcore" / "include"
        return [(path, root / path.relative_to(INCLUDE)) for path in sorted(INCLUDE.rglob("*.h"))]

    def run(self):
        super().run()
        for source, target in self.header_targets():
            self.mkpath(str(target.parent))
            self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode=True):
        headers = [str(target) for _, target in self.header_targets()]
        return [*super().get_outputs(include_bytecode), *headers]


def extension(pyx):
    return Extension(
        ".".join(pyx.with_suffix("").parts),
        [str(pyx)],
        include_dirs=[str(INCLUDE)],
        # The archive stands for csrc's sources, and cythonize() follows the .pxd files.
        depends=[*HEADERS, "setup.py"],
        define_macros=TRACE_MACROS if COVERAGE else [],
        extra_compile_args=COMMON_FLAGS,
        extra_link_args=LINK_FLAGS,
    )


CORE = {
    "sources": core_sources(),
    "include_dirs": [str(INCLUDE)],
    "macros": CORE_MACROS,
    "cflags": CORE_FLAGS,
    "obj_deps": {"": [*HEADERS, str(SOURCES_TXT), "setup.py"]},
}

setup(
    options={"build": {"build_base": f"build/{VARIANT}"}} if VARIANT else {},
    libraries=[] if SKIP_EXT else [("fccore", CORE)],
    ext_modules=[] if SKIP_EXT else [extension(p) for p in sorted(Path("flowcore").rglob("*.pyx"))],
    cmdclass={"build_clib": BuildCore, "build_ext": BuildExt, "build_py": BuildPy},
)
