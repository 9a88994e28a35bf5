"""Adds up JUnit reports and prints "N passed, N failed": tally.py REPORT...

A report that is missing stands for a step that broke before it ran, and counts as a failure.
"""

import os
import sys
import xml.etree.ElementTree as ET


def count(path: str) -> tuple[int, int, int]:
    """Return (passed, failed, skipped) of one report, as pytest or CTest writes it."""
    if not os.path.exists(path):
        print(f"no report {path}")
        return 0, 1, 0
    passed = failed = skipped = 0
    for case in ET.parse(path).getroot().iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def main(paths: list[str]) -> int:
    totals = [sum(column) for column in zip(*map(count, paths), strict=True)] or [0, 0, 0]
    passed, failed, skipped = totals
    print(f"{skipped} skipped")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
