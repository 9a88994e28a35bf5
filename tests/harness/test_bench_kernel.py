"""The benchmark of the kernel tells the truth: what is wrong is found, what is missed says so."""

import json
import queue
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))

import bench_kernel  # noqa: E402
from kernel import (  # noqa: E402
    arrivals,
    coroutines,
    executor,
    pools,
    processes,
    queues,
    records,
    report,
    rings,
    threads,
)
from kernel.arrivals import WrongResult  # noqa: E402
from kernel.contest import Contest, Entrant, Result, measure  # noqa: E402
from kernel.floor import Floor  # noqa: E402
from kernel.goal import Goal  # noqa: E402
from kernel.kinds import SIMPLE, Kind  # noqa: E402

# ---- what arrives ------------------------------------------------------------------------------


def test_items_in_their_order_pass() -> None:
    sent = arrivals.numbered(2, 6)
    arrivals.check(sent, [sent[0] + sent[1]])
    arrivals.check(sent, [[sent[1][0], sent[0][0], sent[1][1]], [*sent[0][1:], sent[1][2]]])


@pytest.mark.parametrize(
    ("got", "message"),
    [
        ([0, 1, 3], "of 4 items: 1 lost"),
        ([0, 1, 2, 3, 3], "of 4 items: 1 doubled"),
        ([0, 1, 1, 3], "of 4 items: 1 lost, 1 doubled"),
        ([0, 1, 2, 3, 9], "of 4 items: 1 never sent"),
        ([], "of 4 items: 4 lost"),
        ([1, 0, 2, 3], "overtaken"),
    ],
)
def test_what_is_wrong_is_told(got: list[int], message: str) -> None:
    with pytest.raises(WrongResult, match=message):
        arrivals.check([[0, 1, 2, 3]], [got])


def test_order_counts_for_each_producer_alone() -> None:
    (a, b), (c, d) = sent = arrivals.numbered(2, 4)
    arrivals.check(sent, [[c, a, d, b]])
    with pytest.raises(WrongResult, match="overtaken"):
        arrivals.check(sent, [[c, b, d, a]])


def test_items_must_be_shared_evenly() -> None:
    with pytest.raises(ValueError, match="3 producers"):
        arrivals.numbered(3, 4)


# ---- queues that do it wrong -------------------------------------------------------------------


class Losing(queue.SimpleQueue):
    """The third item does not arrive."""

    seen = 0

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        self.seen += 1
        if self.seen != 3:
            super().put(item)


class Doubling(Losing):
    """The third item arrives twice."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item)
        if self.seen == 3:
            queue.SimpleQueue.put(self, item)
            queue.SimpleQueue.put(self, item)


class Overtaking(queue.LifoQueue):
    """The latest comes first."""


class Breaking(queue.SimpleQueue):
    """Taking fails."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        raise LookupError("broken")


def through_threads(make: Callable[[], Any], producers: int = 1, consumers: int = 1) -> float:
    how = threads.singly(Kind("wrong", make))
    return threads.pass_on(make, how, producers, consumers, 400, patience_s=0.5)


@pytest.mark.parametrize("crowd", [(1, 1), (2, 2)])
def test_threads_find_a_lost_item_and_do_not_wait_for_ever(crowd: tuple[int, int]) -> None:
    with pytest.raises(WrongResult, match="still waiting"):
        through_threads(Losing, *crowd)


@pytest.mark.parametrize("crowd", [(1, 1), (2, 2)])
def test_threads_find_a_doubled_item(crowd: tuple[int, int]) -> None:
    with pytest.raises(WrongResult, match="1 lost, 1 doubled"):
        through_threads(Doubling, *crowd)


def test_threads_find_an_overtaken_item() -> None:
    made: list[Overtaking] = []

    def make() -> Overtaking:
        made.append(Overtaking())
        return made[-1]

    def send(q: Any, items: list[int]) -> None:
        with q.mutex:  # so that all are there before the first is taken
            q.queue.extend(items)
            q.not_empty.notify_all()

    def take(q: Any, count: int) -> list[int]:
        return [q.get() for _ in range(count)]

    with pytest.raises(WrongResult, match="overtaken"):
        threads.pass_on(make, (send, take), 1, 1, 400, patience_s=5)


def test_an_error_in_a_thread_is_raised() -> None:
    with pytest.raises(LookupError, match="broken"):
        through_threads(Breaking)


@pytest.mark.parametrize("make", [Doubling, Overtaking])
def test_bursts_in_one_thread_are_checked(make: Callable[[], Any]) -> None:
    with pytest.raises(WrongResult):
        queues.in_bursts(Kind("wrong", make))(queues.BURST)


def test_turns_in_one_thread_are_checked() -> None:
    with pytest.raises(WrongResult):
        queues.in_turn(Kind("wrong", Doubling))(100)


@pytest.mark.parametrize("loop", list(coroutines.LOOPS))
@pytest.mark.parametrize("direction", [coroutines.from_thread, coroutines.between])
def test_coroutines_find_a_lost_item(loop: str, direction: coroutines.Direction) -> None:
    def losing() -> coroutines.Ends:
        ends = coroutines.plain()
        put, aput = ends.put, ends.aput

        async def drop(item: int) -> None:
            if item != 3:
                await aput(item)

        ends.put, ends.aput = lambda item: item == 3 or put(item), drop
        return ends

    with pytest.raises(WrongResult, match="still waiting"):
        coroutines.pass_on(loop, losing, direction, coroutines.take, 20, patience_s=0.3)


def test_coroutines_find_a_doubled_item() -> None:
    def doubling() -> coroutines.Ends:
        ends = coroutines.plain()
        aput = ends.aput

        async def twice(item: int) -> None:
            for _ in range(2):
                await aput(item)

        ends.aput = twice
        return ends

    with pytest.raises(WrongResult, match="10 lost, 10 doubled"):
        coroutines.pass_on("asyncio", doubling, coroutines.between, coroutines.take, 20)


def test_records_find_what_differs() -> None:
    pytest.importorskip("numpy")

    def garble(q: Any, array: Any) -> None:
        q.put(array + (array == 300))

    with pytest.raises(WrongResult, match="1 of 512 records differ"):
        records.pass_on(queue.SimpleQueue, garble, records.get_copy, 512)


def test_the_executor_finds_a_wrong_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "twice", lambda number: 2 * number + (number == 7))
    run = executor.contests()[0].entrants[-1].run
    with pytest.raises(WrongResult, match="not that of its call"):
        run(100)


def test_processes_tell_what_the_other_benchmark_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*args: object) -> float:
        raise AssertionError("3 messages")

    monkeypatch.setattr(processes.shared, "rate", wrong)
    with pytest.raises(WrongResult, match="SharedQueue: 3 messages"):
        processes.contests()[0].entrants[0].run(256)


# ---- the queues that do it right ---------------------------------------------------------------

SECTIONS = [queues, threads, coroutines, pools, executor, records]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.__name__)
def test_all_entrants_of_a_section_can_be_measured(section: Any) -> None:
    for contest in section.contests():
        assert contest.entrants, contest.absent
        for each in contest.entrants:
            assert each.run(each.whole(2 * each.step)) >= 0, (contest.title, each.name)


def test_every_contest_has_a_title_of_its_own() -> None:
    titles = [c.title for s in [*SECTIONS, processes] for c in s.contests()]
    assert len(titles) == len(set(titles))


def test_ours_stand_beside_rings_by_titles_that_are_there() -> None:
    measured = [
        (contest.title, each.name)
        for section in (queues, threads)
        for contest in section.contests()
        for each in contest.entrants
    ]
    for title, name in rings.BESIDE:
        assert any(t.startswith(title) and n == name for t, n in measured), (title, name)


# ---- goals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("goal", "figure", "verdict"),
    [
        (Goal("<=", 0.8), 0.8, "met"),
        (Goal("<=", 0.8), 0.81, "MISSED"),
        (Goal(">=", 20, "M/s"), 20, "met"),
        (Goal(">=", 20, "M/s"), 19.9, "MISSED"),
        (Goal("<=", 0.8), float("nan"), "MISSED"),
        (Goal(">=", 5), float("nan"), "MISSED"),
    ],
)
def test_a_goal_is_met_at_its_limit_and_not_beyond(
    goal: Goal, figure: float, verdict: str
) -> None:
    assert goal.verdict(figure) == verdict


def test_goals_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="neither"):
        Goal("<", 1)
    with pytest.raises(ValueError, match="none of"):
        Goal("<=", 1, "us")
    with pytest.raises(ValueError, match="cannot have"):
        Contest("a ratio to itself", [Entrant("ours", taking(1), Goal("<=", 1), ours=True)])
    with pytest.raises(ValueError, match="cannot have"):
        Contest("a rival's own", [Entrant("rival", taking(1), Goal("<=", 1, "ns"))])


def taking(*ns: float) -> Callable[[int], float]:
    """Slices that say they took so many ns an item, one after the other, the last for ever."""
    left = list(ns)
    return lambda count: (left.pop(0) if len(left) > 1 else left[0]) * count / 1e9


def results(goal: Goal, *, by_rate: bool, second: float = 10.0) -> Result:
    entrants = [
        Entrant("ours", taking(10), ours=True),
        Entrant("ours too", taking(second), ours=True),
        Entrant("rival", taking(40), goal),
    ]
    return measure(Contest("a title", entrants, by_rate=by_rate), 3, 1e-6)


@pytest.mark.parametrize(
    ("goal", "by_rate", "cell"),
    [
        (Goal(">=", 4), True, ">= 4 x, met"),
        (Goal(">=", 4.1), True, ">= 4.1 x, MISSED"),
        (Goal("<=", 0.25), False, "<= 0.25 x, met"),
        (Goal("<=", 0.2), False, "<= 0.2 x, MISSED"),
    ],
)
def test_the_goal_column_says_what_became_of_it(goal: Goal, by_rate: bool, cell: str) -> None:
    result = results(goal, by_rate=by_rate)
    row = next(line for line in report.render(result).splitlines() if line.startswith("| rival"))
    assert [c.strip() for c in row.split("|")][-2] == cell
    assert ("4.00 x" if by_rate else "0.250 x") in row


def test_one_of_ours_that_misses_is_enough() -> None:
    result = results(Goal(">=", 4), by_rate=True, second=20)
    assert "MISSED" in report.render(result)
    assert [v.met for v in result.verdicts()] == [True, False]
    text = report.goals(result.verdicts())
    assert "met    a title: ours to rival 4.00 x, goal >= 4 x" in text
    assert "MISSED a title: ours too to rival 2.00 x, goal >= 4 x" in text
    assert text.endswith("1 of 2 goals met")


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("<=", 60, "ns"), True),
        (Goal("<=", 49, "ns"), False),
        (Goal(">=", 20, "M/s"), True),
        (Goal(">=", 20.1, "M/s"), False),
    ],
)
def test_goals_of_our_own_figure(goal: Goal, met: bool) -> None:
    contest = Contest("own", [Entrant("ours", taking(50), goal, ours=True)])
    result = measure(contest, 1, 1e-6)
    assert [v.met for v in result.verdicts()] == [met]
    assert ("MISSED" in report.render(result)) is not met


def test_a_goal_without_ours_is_not_met_by_silence() -> None:
    contest = Contest("alone", [Entrant("rival", taking(1), Goal(">=", 2))], {"ours": "it is gone"})
    result = measure(contest, 1, 1e-6)
    assert "Not measured: ours, it is gone." in report.render(result)
    assert "met" not in report.render(result)
    assert result.verdicts() == []


# ---- rounds ------------------------------------------------------------------------------------


def test_every_round_begins_with_another_entrant() -> None:
    order: list[str] = []

    def entrant(name: str) -> Entrant:
        def run(count: int) -> float:
            order.append(name)
            return count / 1e6

        return Entrant(name, run, first=100, most=100)

    measure(Contest("", [entrant(n) for n in "abc"]), 3, 1e-9)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"


def test_slices_last_as_long_for_all_and_are_whole() -> None:
    counts: dict[str, list[int]] = {"fast": [], "slow": []}

    def entrant(name: str, ns: float) -> Entrant:
        def run(count: int) -> float:
            counts[name].append(count)
            return count * ns / 1e9

        return Entrant(name, run, step=256, most=1_000_000_000)

    measure(Contest("", [entrant("fast", 10), entrant("slow", 5000)]), 1, 0.1)
    assert counts["fast"][-1] == pytest.approx(1e7, rel=0.01)
    assert counts["slow"][-1] == pytest.approx(2e4, rel=0.05)
    assert all(count % 256 == 0 for tried in counts.values() for count in tried)


def test_ratios_are_of_the_same_round() -> None:
    # The machine is at half its speed in the middle round, for both.
    ours = Entrant("ours", taking(1, 10, 20, 10), ours=True)
    rival = Entrant("rival", taking(1, 50, 100, 70))
    result = measure(Contest("", [ours, rival]), 3, 1e-6)
    assert result.ns["ours"] == pytest.approx([10, 20, 10])
    assert result.ns["rival"] == pytest.approx([50, 100, 70])
    assert result.ratio("ours", "rival") == pytest.approx(5)
    assert result.figure("ours") == pytest.approx(10)
    least = Result(Contest("", [ours, rival], of=min, by_rate=False), result.ns)
    assert least.figure("rival") == pytest.approx(50)
    assert least.ratio("ours", "rival") == pytest.approx(0.2)


def test_where_the_least_counts_slices_are_short_and_many() -> None:
    counts: list[int] = []

    def run(count: int) -> float:
        counts.append(count)
        return count / 1e9

    contest = Contest("", [Entrant("only", run, first=1000)], of=min)
    result = measure(contest, 2, 0.016)
    assert len(result.ns["only"]) == 2 * contest.pieces > 2
    assert counts[-1] * contest.pieces == pytest.approx(16_000_000, rel=0.01)


def test_a_disturbed_empty_loop_is_not_taken_off() -> None:
    floor = Floor(taking(900, 5, 5, 800, 700, 600))
    assert floor.seconds(1000) == pytest.approx(5e-6)
    assert floor.seconds(1000) == pytest.approx(5e-6)


# ---- the program -------------------------------------------------------------------------------


def test_the_program_prints_and_writes_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures.json"
    options = ["--only", "threads,queues", "--rounds", "2", "--seconds", "0.001"]
    assert bench_kernel.main([*options, "--json", str(path)]) == 0
    text = capsys.readouterr().out
    record = json.loads(path.read_text())
    titles = [c["contest"] for c in record["contests"]]
    assert titles == [c.title for s in (queues, threads) for c in s.contests()]
    assert all(f"### {title}\n" in text for title in titles)
    pieces = {c.title: c.pieces for s in (queues, threads) for c in s.contests()}
    for c in record["contests"]:
        assert all(len(ns) == 2 * pieces[c["contest"]] for ns in c["ns"].values())
    goals = [g for c in record["contests"] for g in c["goals"]]
    assert f"{sum(g['met'] for g in goals)} of {len(goals)} goals met" in text


@pytest.mark.parametrize("options", [["--only", "pols"], ["--rounds", "0"], ["--seconds", "x"]])
def test_the_program_refuses_what_it_does_not_know(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench_kernel.main(options)
    assert stopped.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_the_help_names_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench_kernel.main(["--help"])
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in bench_kernel.SECTIONS)


# ---- the C rings -------------------------------------------------------------------------------


def program(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_rings_are_read_as_json_or_else_shown(tmp_path: Path) -> None:
    new = program(tmp_path / "new", """[ "$1" = --json ] && echo '{"rings": {}}'""")
    old = program(tmp_path / "old", """[ "$1" = --json ] && exit 1; echo "spsc 1.8 ns" """)
    assert rings.run(new, 1) == {"rings": {}}
    assert rings.run(old, 1) == "spsc 1.8 ns\n"
    with pytest.raises(rings.NotBuilt, match="a sum is wrong"):
        rings.run(program(tmp_path / "bad", "echo a sum is wrong >&2; exit 1"), 1)


def test_the_border_is_what_python_adds() -> None:
    contest = next(c for c in threads.contests() if c.title == "thread to thread, singly")
    result = Result(contest, {e.name: [50.0] for e in contest.entrants})
    text = rings.render_border({"spsc": {"ops_per_s_1x1": 25e6}}, [result])
    row = next(line for line in text.splitlines() if "SPSCQueue" in line)
    assert [c.strip() for c in row.split("|")][2:5] == ["50.0", "40.0 (spsc)", "10.0"]
    assert SIMPLE.name not in text
    assert rings.render_border({"spsc": {"ops_per_s_1x1": 25e6}}, []) == ""


def test_without_cmake_the_section_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rings.shutil, "which", lambda name: None)
    text, record = rings.section([], 0.1)
    assert "Not measured: bench_rings, cmake is not installed." in text
    assert record == {"absent": "cmake is not installed"}
