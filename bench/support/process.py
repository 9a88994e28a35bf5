"""CPU time, memory and descriptors of a process and all its descendants, from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """`pid` and its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            stat = Path(entry.path, "stat").read_text()
        except OSError:
            continue
        parent = int(stat.rpartition(")")[2].split()[1])
        children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for p in found:
        found += children.get(p, [])
    return found


def _cpu_of(pid: int) -> float:
    """User and system time of all threads. schedstat counts nanoseconds where stat counts ticks."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((t / "schedstat").read_text().split()[0]) for t in tasks) / 1e9
    except OSError:
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def cpu_s(pid: int) -> float:
    """Seconds of CPU that the whole tree has used, system time included."""
    return sum(_cpu_of(p) for p in tree(pid))


@dataclass(frozen=True)
class Memory:
    pss_bytes: int
    rss_bytes: int
    descriptors: int
    threads: int


def memory(pid: int) -> Memory:
    """What the whole tree holds; RSS counts shared pages once a process, PSS divides them."""
    pss = rss = descriptors = threads = 0
    for p in tree(pid):
        for line in Path(f"/proc/{p}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == "Pss":
                pss += int(rest.split()[0]) * 1024
            elif name == "Rss":
                rss += int(rest.split()[0]) * 1024
        descriptors += len(os.listdir(f"/proc/{p}/fd"))
        threads += len(os.listdir(f"/proc/{p}/task"))
    return Memory(pss, rss, descriptors, threads)
