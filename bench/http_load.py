"""The benchmark's rows, the check of what servers reply to them, and wrk."""

import http.client
import json
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

WRK = Path(__file__).parent / "wrk"
PIPELINED = 16
HELLO = b"Hello, World!"


def browser_headers() -> dict[str, str]:
    lines = (WRK / "browser_headers.txt").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines)


@dataclass(frozen=True)
class Row:
    name: str
    what: str
    path: str
    expected: bytes
    canned: str  # the mode of the bare C program that gives the same reply
    headers: bool = False
    post_bytes: int = 0

    @property
    def method(self) -> str:
        return "POST" if self.post_bytes else "GET"


JSON_BODY = b'{"message":"Hello, World!"}'
ROWS = {
    row.name: row
    for row in [
        Row("plain", "GET", "/", HELLO, "plain"),
        Row("headers", "GET with ten more browser headers", "/", HELLO, "plain", headers=True),
        Row("json", "GET, JSON reply", "/json", JSON_BODY, "json"),
        Row("pipelined", f"GET, {PIPELINED} pipelined", "/", HELLO, "plain"),
        Row("post", "POST of 4 KiB", "/upload", b"4096", "upload", post_bytes=4096),
    ]
}
SLEEP0 = Row("sleep0", "GET, handler awaits asyncio.sleep(0)", "/sleep0", HELLO, "plain")


class WrongReply(Exception):
    """A server's reply is not the one that the row asks for."""


def check(port: int, row: Row) -> None:
    """Raises WrongReply unless the server on `port` answers the row as expected, twice."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        for _ in range(2):
            body = b"x" * row.post_bytes or None
            headers = browser_headers() if row.headers else {}
            connection.request(row.method, row.path, body, headers)
            response = connection.getresponse()
            got = response.read()
            if response.status != 200 or got != row.expected:
                raise WrongReply(f"{row.name}: status {response.status}, body {got[:80]!r}")
            for name in ("Date", "Content-Type", "Content-Length"):
                if response.getheader(name) is None:
                    raise WrongReply(f"{row.name}: no {name} in the reply")
    except (OSError, http.client.HTTPException) as error:
        raise WrongReply(f"{row.name}: {error!r}") from error
    finally:
        connection.close()
    if row.name == "pipelined":
        _check_pipelined(port, row)


def _check_pipelined(port: int, row: Row) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
        s.sendall(f"GET {row.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode() * PIPELINED)
        reader = s.makefile("rb")
        for i in range(PIPELINED):
            length = -1
            status = reader.readline()
            while (line := reader.readline()) not in (b"\r\n", b""):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            got = reader.read(length) if length >= 0 else b""
            if b" 200 " not in status or got != row.expected:
                raise WrongReply(f"pipelined: reply {i} is {status!r} {got[:80]!r}")


@dataclass(frozen=True)
class Load:
    """What one run of wrk saw. Pipelined, a sample is from the batch's write to its last reply."""

    requests: int
    samples: int
    duration_us: int
    p50_us: int
    p99_us: int
    p999_us: int
    socket_errors: int
    status_errors: int

    @property
    def per_second(self) -> float:
        return self.requests / (self.duration_us / 1e6)


def wrk(port: int, row: Row, connections: int, seconds: int, threads: int = 1) -> Load:
    """Drives the server on `port`; raises WrongReply when it answered nothing or with an error."""
    command = ["wrk", "-t", str(min(threads, connections)), "-c", str(connections)]
    command += ["-d", f"{seconds}s", "-s", f"{row.name}.lua", f"http://127.0.0.1:{port}{row.path}"]
    done = subprocess.run(
        command, cwd=WRK, env={**os.environ, "BENCH_CONNECTIONS": str(connections)},
        capture_output=True, text=True, timeout=seconds + 60,
    )
    line = next((li for li in done.stdout.splitlines() if li.startswith("@")), None)
    if line is None:
        raise WrongReply(f"wrk failed: {(done.stderr or done.stdout).strip()[-300:]}")
    load = Load(**json.loads(line[1:]))
    if load.requests == 0 or load.status_errors:
        raise WrongReply(f"{row.name}: {load.requests} replies, {load.status_errors} not 2xx")
    return load
