"""What a result was measured on."""

import os
import platform
import shlex
import subprocess
import sys
from importlib import metadata


def cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as f:
            for line in f:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def first_line(*command: str) -> str | None:
    """The first line that a program prints, on either stream; None: there is no such program."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError:
        return None
    lines = (done.stdout + done.stderr).splitlines()
    return lines[0].strip() if lines else ""


def describe(distributions: list[str]) -> list[str]:
    """Lines that name the machine, the interpreter, the packages' versions and the command."""
    packages = [f"{d} {v}" for d in distributions if (v := version_of(d))]
    return [
        f"cpu      {cpu_model()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}",
        f"kernel   {platform.system()} {platform.release()}",
        f"python   {platform.python_implementation()} {platform.python_version()}",
        f"packages {', '.join(packages) or 'none'}",
        f"command  {shlex.join(['python', os.path.relpath(sys.argv[0]), *sys.argv[1:]])}",
    ]
