"""SharedQueue between processes, as bench_shared_queue.py measures and checks it."""

import bench_shared_queue as shared

from kernel.arrivals import WrongResult
from kernel.contest import Contest, Entrant
from kernel.goal import Goal

MANY_BYTES = 1 << 28  # of the first slice
MOST_BYTES = 4 << 30  # of any; what small messages say is kept until it is checked
GOALS = {"mp.Queue", "faster-fifo"}
SMALL_BYTES = 256
LARGE_BYTES = 1 << 20


def goal_of(rival: str, size: int, batched: bool) -> Goal | None:
    if rival not in GOALS or SMALL_BYTES < size < LARGE_BYTES:
        return None
    return Goal(">=", 3 if size == LARGE_BYTES else 30 if batched else 10)


def entrant(rival: shared.Rival, size: int, producers: int, batched: bool) -> Entrant:
    def run(count: int) -> float:
        try:
            return count / shared.rate(rival, size, producers, batched, count // producers)
        except AssertionError as error:
            raise WrongResult(f"{rival.name}: {error}") from error

    is_ours = rival.name == "SharedQueue"
    goal = None if is_ours else goal_of(rival.name, size, batched)
    most = min(3_000_000 if batched else 400_000, MOST_BYTES // size)
    first = min(20_000, max(100, MANY_BYTES // size))
    step = producers * (shared.BATCH[size] if batched else 1)
    return Entrant(rival.name, run, goal, is_ours, step, first, most)


def contests() -> list[Contest]:
    """A queue without batches stands in the batch rows with single messages."""
    absent = {} if shared.faster_fifo else {"faster-fifo": "which is not installed or not built"}
    cases = [(size, 1, batched) for size in shared.LANE_BYTES for batched in (False, True)]
    cases += [(16, 3, False), (16, 3, True), (16384, 3, False)]
    return [
        Contest(
            f"between processes, {shared.LABELS[size]} {'in batches' if batched else 'singly'}, "
            f"{producers} producer{'s' if producers > 1 else ''}",
            [entrant(rival, size, producers, batched) for rival in shared.rivals()],
            absent,
        )
        for size, producers, batched in cases
    ]
