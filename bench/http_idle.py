"""What idle keep-alive connections cost: memory for each, and latency of the one that is active."""

import resource
import socket
import time

from http_load import ROWS
from http_servers import Server
from support import process, table

PER_SOURCE = 20_000  # connections from one 127.0.0.x, which has some 28,000 ports
PING_PONGS = 20_000
IP_BIND_ADDRESS_NO_PORT = 24


class IdleError(Exception):
    """The connections could not be opened."""


def raise_file_limit(connections: int) -> None:
    """For this process and the servers it will start."""
    need = connections + 1024
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    endless = resource.RLIM_INFINITY
    if soft == endless or soft >= need:
        return
    try:
        most = hard if hard == endless else max(hard, need)
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, most))
    except (ValueError, OSError) as error:
        raise IdleError(f"{connections} connections need {need} open files, the limit is {hard}: "
                        "raise it (ulimit -n) or ask for fewer") from error


def _exchange(s: socket.socket, request: bytes) -> None:
    """One request and its reply, which ends with the expected body."""
    s.sendall(request)
    reply = b""
    while not reply.endswith(ROWS["plain"].expected):
        data = s.recv(65536)
        if not data:
            raise IdleError("the server closed a connection")
        reply += data


def _open(port: int, count: int, request: bytes) -> list[socket.socket]:
    """Connections that have each had one reply, so that they are idle, not new."""
    opened = []
    try:
        for i in range(count):
            s = socket.socket()
            opened.append(s)
            s.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            s.bind((f"127.0.0.{2 + i // PER_SOURCE}", 0))
            s.connect(("127.0.0.1", port))
            _exchange(s, request)
    except OSError as error:
        for s in opened:
            s.close()
        raise IdleError(f"connection {len(opened)} of {count} failed: {error}") from error
    return opened


def _alive(connections: list[socket.socket]) -> int:
    """How many the server has not closed."""
    count = 0
    for s in connections:
        try:
            s.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            count += 1
        except OSError:
            pass
    return count


def _ping_pong(port: int, request: bytes) -> list[str]:
    """p50, p99 and p99.9 in microseconds of one request after the other on one connection."""
    times = []
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(1000):
            _exchange(s, request)
        for _ in range(PING_PONGS):
            start = time.perf_counter_ns()
            _exchange(s, request)
            times.append(time.perf_counter_ns() - start)
    times.sort()
    return [f"{times[int(len(times) * q)] / 1000:.1f}" for q in (0.5, 0.99, 0.999)]


def run(server: Server, count: int) -> str:
    port, pid = server.port("plain"), server.pid("plain")
    request = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    latencies = [["none", *_ping_pong(port, request)]]
    before = process.memory(pid)
    connections = _open(port, count, request)
    try:
        time.sleep(0.5)
        after = process.memory(pid)
        latencies.append([f"{count:,}", *_ping_pong(port, request)])
        alive = _alive(connections)
    finally:
        for s in connections:
            s.close()
    time.sleep(1)
    latencies.append(["closed again", *_ping_pong(port, request)])
    closed = process.memory(pid)
    memory = [
        [name, f"{a // 1024:,}", f"{b // 1024:,}", f"{(b - a) / count:,.0f}", f"{c // 1024:,}"]
        for name, a, b, c in [
            ("PSS", before.pss_bytes, after.pss_bytes, closed.pss_bytes),
            ("RSS", before.rss_bytes, after.rss_bytes, closed.rss_bytes),
        ]
    ]
    head = ["memory", "before, KiB", "open, KiB", "bytes/connection", "closed, KiB"]
    return "\n".join([
        f"### {server.name}: {count:,} idle connections, {alive:,} of them open at the end\n",
        table.render(head, memory) + "\n",
        table.render(["idle connections", "p50 us", "p99 us", "p99.9 us"], latencies) + "\n",
        f"descriptors: {before.descriptors} before, {after.descriptors:,} open, "
        f"{closed.descriptors} closed\n",
    ])
