"""How far a long measurement is."""

import sys
import time


class Progress:
    """One line on a terminal that is overwritten; nothing when stderr is not one."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.start = total, 0, time.monotonic()

    def show(self, what: str) -> None:
        if sys.stderr.isatty():
            spent = time.monotonic() - self.start
            text = f"[{self.done + 1}/{self.total}] {what}"
            if self.done:
                text += f", {spent / self.done * (self.total - self.done):.0f} s left"
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
        self.done += 1

    def clear(self) -> None:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
