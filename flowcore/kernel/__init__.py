"""The compiled kernel's public pieces. Cython users ``cimport`` from ``flowcore.kernel``."""

__all__: list[str] = []
