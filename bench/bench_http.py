"""HTTP servers side by side: requests per second, latency and server CPU per request.

Every server runs one worker, without access log, on the loopback interface. All are started at
once; wrk drives them one after the other in short slices, round after round, so that a drift of
the machine meets them all. A ratio is the median of the rounds' ratios to bare C.

With load generator and server on the same few cores, requests per second mostly show the
generator. The figure to look at is the CPU: user and system time of the server's whole process
tree, divided by the requests it served. Latencies are as seen by wrk, which sends the next request
when the last was answered; pipelined, they are a batch's.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import http_idle
from http_load import ROWS, SLEEP0, Load, Row, WrongReply, check, wrk
from http_servers import ABOUT, ROOT, STARTERS, Server, Servers
from support import machine, process, table
from support.progress import Progress

PACKAGES = ["flowcore", "uvicorn", "uvloop", "httptools", "granian"]
SLEEP0_LIMIT_US = 3.0
FIGURES: dict[str, Callable[["Slice"], float]] = {
    "req/s": lambda s: s.load.per_second,
    "p50 us": lambda s: s.load.p50_us,
    "p99 us": lambda s: s.load.p99_us,
    "p99.9 us": lambda s: s.load.p999_us,
    "CPU us/req": lambda s: s.cpu_us,
}

EXAMPLES = """\
rows:
{rows}

servers:
{servers}

examples:
  bench_http.py --quick                        one short round at 64 connections
  bench_http.py --rounds 7 --save              everything, kept in bench/results/
  bench_http.py --rows plain --servers bare-c,flowcore,nginx --connections 64
  bench_http.py --sleep0                       what one suspension of a handler costs
  bench_http.py --idle 10000                   memory and latency with idle connections open
  bench_http.py --million                      memory and descriptors after a million requests
"""


@dataclass(frozen=True)
class Slice:
    """One run of wrk against one server."""

    load: Load
    cpu_us: float


def drive(server: Server, row: Row, connections: int, seconds: int) -> Slice:
    pid = server.pid(row.canned)
    before = process.cpu_s(pid)
    load = wrk(server.port(row.canned), row, connections, seconds)
    used = process.cpu_s(pid) - before
    return Slice(load, used * 1e6 / load.requests)


Rounds = dict[str, list[Slice]]  # by server; the n-th slices of all were run next to each other


def measure(servers: list[Server], row: Row, connections: int, rounds: int, seconds: int,
            progress: Progress) -> Rounds:
    """`rounds` rounds of one slice each; every round starts with another server."""
    result: Rounds = {s.name: [] for s in servers}
    for n in range(rounds):
        at = n % len(servers)
        for server in servers[at:] + servers[:at]:
            progress.show(f"{row.name}, {connections} connections, {server.name}")
            result[server.name].append(drive(server, row, connections, seconds))
    progress.clear()
    return result


def median(slices: list[Slice], figure: str) -> float:
    return statistics.median(FIGURES[figure](s) for s in slices)


def ratio(result: Rounds, name: str, base: str, figure: str) -> float:
    """The median of the rounds' ratios."""
    value = FIGURES[figure]
    pairs = zip(result[name], result[base], strict=True)
    return statistics.median(value(a) / value(b) if value(b) else float("nan") for a, b in pairs)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def report(row: Row, connections: int, result: Rounds) -> str:
    base = "bare-c" if "bare-c" in result else None
    lines = []
    for name, slices in result.items():
        cells = [name]
        for figure in FIGURES:
            cell = number(median(slices, figure))
            cells.append(f"{cell} ({ratio(result, name, base, figure):.2f}x)" if base else cell)
        cells.append(str(sum(s.load.socket_errors for s in slices)))
        lines.append(cells)
    title = f"### {row.what}, {connections} connection{'s' if connections > 1 else ''}"
    return f"{title}\n\n{table.render(['server', *FIGURES, 'errors'], lines)}\n"


def goals(row: Row, result: Rounds) -> Iterator[str]:
    """The project's goals for server CPU per request, as lines that say whether each was met."""
    if "flowcore" not in result:
        return
    wanted = [("bare-c", 2.0 if row.name == "pipelined" else 1.25)]
    if row.name != "pipelined":
        wanted.append(("nginx", 0.9))
    wanted += [("granian-asgi", 0.4), ("granian-rsgi", 0.4), ("uvicorn", 0.4)]
    for peer, limit in wanted:
        if peer in result:
            got = ratio(result, "flowcore", peer, "CPU us/req")
            verdict = "met   " if got <= limit else "MISSED"
            yield f"{verdict} {row.name}: {got:.2f} x {peer}, goal {limit}"


def check_all(servers: list[Server], rows: list[Row]) -> None:
    for server in servers:
        for row in rows:
            try:
                check(server.port(row.canned), row)
            except WrongReply as error:
                sys.exit(f"{server.name} gives a wrong reply, nothing was measured: {error}")


def compare(servers: list[Server], options: argparse.Namespace, out: Callable[[str], None]) -> list:
    """All rows at all numbers of connections. Returns what --json writes."""
    rows = [ROWS[name] for name in options.rows]
    check_all(servers, rows)
    total = len(rows) * len(options.connections) * options.rounds * len(servers)
    out(f"{total} slices of {options.duration} s; medians of {options.rounds} rounds, "
        "(n x): the ratio to bare C\n")
    progress, verdicts, records = Progress(total), [], []
    for connections in options.connections:
        for row in rows:
            result = measure(servers, row, connections, options.rounds, options.duration, progress)
            out(report(row, connections, result))
            if connections == 64:
                verdicts += goals(row, result)
            for name, slices in result.items():
                where = {"row": row.name, "connections": connections, "server": name}
                records.append(where | {f: [FIGURES[f](s) for s in slices] for f in FIGURES})
    if verdicts:
        out("### Goals: flowcore's CPU per request at 64 connections\n\n" + "\n".join(
            f"    {v}" for v in verdicts) + "\n")
    return records


def sleep0(servers: list[Server], options: argparse.Namespace, out: Callable[[str], None]) -> bool:
    """One suspension of a handler, as the difference to a handler that never suspends."""
    met = True
    servers = [s for s in servers if s.name not in ("bare-c", "nginx")]
    check_all(servers, [ROWS["plain"], SLEEP0])
    progress = Progress(2 * len(servers) * options.rounds)
    lines = []
    for server in servers:
        costs = []
        for n in range(options.rounds):
            cpu = {}
            for row in [ROWS["plain"], SLEEP0][:: -1 if n % 2 else 1]:
                progress.show(f"{row.name}, {server.name}")
                cpu[row.name] = drive(server, row, 64, options.duration).cpu_us
            costs.append((cpu["plain"], cpu["sleep0"], cpu["sleep0"] - cpu["plain"]))
        plain, suspended, cost = (statistics.median(c) for c in zip(*costs, strict=True))
        lines.append([server.name, f"{plain:.2f}", f"{suspended:.2f}", f"{cost:.2f}"])
        if server.name == "flowcore":
            met = cost <= SLEEP0_LIMIT_US
    progress.clear()
    head = ["server", "plain, CPU us/req", "with sleep(0)", "difference"]
    out("### await asyncio.sleep(0) in the handler, 64 connections\n")
    out(table.render(head, lines) + "\n")
    if any(s.name == "flowcore" for s in servers):
        out(f"    {'met   ' if met else 'MISSED'} difference at most {SLEEP0_LIMIT_US} us\n")
    return met


def million(server: Server, out: Callable[[str], None], warm_up: int = 100_000,
            count: int = 1_000_000) -> None:
    """Memory and descriptors before and after `count` requests of all rows in turn."""
    check_all([server], list(ROWS.values()))

    def serve(count: int) -> int:
        served = 0
        while served < count:
            for row in ROWS.values():
                served += wrk(server.port(row.canned), row, 64, 1).requests
        time.sleep(1)  # for the last connections to be closed
        return served

    serve(warm_up)
    before = process.memory(server.pids[0])
    served = serve(count)
    after = process.memory(server.pids[0])
    lines = []
    for what, a, b, unit in [
        ("PSS, KiB", before.pss_bytes, after.pss_bytes, 1024),
        ("RSS, KiB", before.rss_bytes, after.rss_bytes, 1024),
        ("descriptors", before.descriptors, after.descriptors, 1),
        ("threads", before.threads, after.threads, 1),
    ]:
        lines.append([what, f"{a // unit:,}", f"{b // unit:,}", f"{(b - a) / unit:+,.0f}"])
    head = [f"{server.name}", "before", f"after {served:,} requests", "growth"]
    out(f"### {served:,} requests, all rows in turn\n\n{table.render(head, lines)}\n")


def names_from(known: dict) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
        return names

    return parse


def counts(text: str) -> list[int]:
    try:
        values = [int(v) for v in text.split(",")]
    except ValueError:
        values = [0]
    if min(values) < 1:
        raise argparse.ArgumentTypeError("wants numbers above 0, as in 1,64,256")
    return values


def positive(text: str) -> int:
    return counts(text)[0]


def options_of(argv: list[str] | None) -> argparse.Namespace:
    def listed(pairs: Iterator[tuple[str, str]]) -> str:
        return "\n".join(f"  {name:<13} {text}" for name, text in pairs)

    examples = EXAMPLES.format(
        rows=listed((r.name, r.what) for r in ROWS.values()), servers=listed(iter(ABOUT.items())))
    p = argparse.ArgumentParser(
        description=__doc__, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=positive, default=5, metavar="N",
                   help="rounds over all servers, of which medians are taken (5)")
    p.add_argument("--duration", type=positive, default=2, metavar="S",
                   help="whole seconds that one slice lasts (2)")
    p.add_argument("--connections", type=counts, default=[1, 64, 256], metavar="N,N",
                   help="numbers of connections (1,64,256)")
    p.add_argument("--rows", type=names_from(ROWS), default=list(ROWS), metavar="ROW,ROW",
                   help="what is asked for, see below (all)")
    p.add_argument("--servers", type=names_from(STARTERS), default=None,
                   metavar="NAME,NAME", help="who is compared, see below (all that can be run)")
    p.add_argument("--quick", action="store_true",
                   help="the same as --rounds 1 --duration 1 --connections 64")
    p.add_argument("--json", metavar="FILE", help="write every slice's figures to FILE")
    p.add_argument("--save", action="store_true",
                   help="write what is printed to bench/results/http-<date>.md too")
    other = p.add_mutually_exclusive_group()
    other.add_argument("--sleep0", action="store_true",
                       help="only: what `await asyncio.sleep(0)` in a handler costs; status 1 when "
                       f"it is more than {SLEEP0_LIMIT_US:.0f} us")
    other.add_argument("--idle", type=positive, metavar="N",
                       help="only: with N idle connections open, memory of each and latency of "
                       "an active one (--servers, else flowcore)")
    other.add_argument("--million", action="store_true",
                       help="only: memory and descriptors before and after a million requests "
                       "(--servers, else flowcore)")
    options = p.parse_args(argv)
    if options.quick:
        options.rounds, options.duration, options.connections = 1, 1, [64]
    if options.servers is None:
        options.servers = ["flowcore"] if options.idle or options.million else list(STARTERS)
    return options


def main(argv: list[str] | None = None) -> int:
    options = options_of(argv)
    if machine.first_line("wrk", "-v") is None:
        sys.exit("wrk is not installed: it is what drives the servers")
    printed: list[str] = []

    def out(text: str) -> None:
        printed.append(text)
        print(text, flush=True)

    out("\n".join(f"    {line}" for line in machine.describe(PACKAGES)))
    for program in (["nginx", "-v"], ["wrk", "-v"], ["cc", "--version"]):
        out(f"    {program[0]:<8} {machine.first_line(*program) or 'not installed'}")
    if options.idle:
        http_idle.raise_file_limit(options.idle)
    met, records = True, []
    with Servers(options.servers) as servers:
        for name, reason in servers.skipped.items():
            out(f"    skipped  {name}: {reason}")
        out("")
        running = list(servers.running.values())
        if not running:
            sys.exit("none of the servers can be run")
        if options.idle:
            for server in running:
                out(http_idle.run(server, options.idle))
        elif options.million:
            for server in running:
                million(server, out)
        elif options.sleep0:
            met = sleep0(running, options, out)
        else:
            records = compare(running, options, out)
    if options.json:
        Path(options.json).write_text(json.dumps(records, indent=1) + "\n")
    if options.save:
        path = ROOT / "bench" / "results" / f"http-{date.today().isoformat()}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text("# HTTP servers side by side\n\n" + "\n".join(printed) + "\n")
        print(f"saved to {path.relative_to(ROOT)}")
    return 0 if met else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (WrongReply, http_idle.IdleError) as error:
        sys.exit(f"stopped: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
