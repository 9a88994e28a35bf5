"""Where the files lie that other extensions compile against."""

from pathlib import Path

__all__ = ["get_include"]


def get_include() -> str:
    """Return the directory to put on the include path so that ``#include "fc/err.h"`` resolves.

    A wheel carries the headers inside the package; in a source tree they are those of ``csrc``.
    """
    package = Path(__file__).resolve().parent
    shipped = package / "include"
    if (shipped / "fc").is_dir():
        return str(shipped)
    return str(package.parent / "csrc" / "include")
