"""curl, in the forms people use."""

import json
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.served import HERE, Process, flowcore_command

MIB = 1024 * 1024
PAYLOAD = random.Random(1).randbytes(3 * MIB)

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")

Curl = Callable[..., bytes]
Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
Logged = Callable[[str, int], list[str]]


@pytest.fixture
def curl(run: Run) -> Curl:
    def call(*arguments: str, data: bytes | None = None) -> bytes:
        done = run("curl", "-sS", "--fail-with-body", "--max-time", "15", *arguments, data=data)
        return done.stdout

    return call


@pytest.fixture
def payload(tmp_path: Path) -> Path:
    path = tmp_path / "payload"
    path.write_bytes(PAYLOAD)
    return path


def test_get(curl: Curl, url: str) -> None:
    assert curl(url) == b"hello"


def test_get_with_headers_shown(curl: Curl, url: str) -> None:
    head, _, body = curl("-i", url).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    names = [line.split(": ")[0].lower() for line in lines]
    assert first == "HTTP/1.1 200 OK"
    assert {"date", "server", "content-length", "content-type"} <= set(names)
    assert len(names) == len(set(names))
    assert body == b"hello"


def test_head(curl: Curl, url: str) -> None:
    shown = curl("-I", url)
    assert shown.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: 5\r\n" in shown.lower()
    assert shown.endswith(b"\r\n\r\n")


def test_http_1_0(curl: Curl, url: str) -> None:
    shown = curl("--http1.0", "-i", url)
    assert shown.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close\r\n" in shown.lower()
    assert curl("--http1.0", f"{url}/stream/200000") == b"s" * 200_000


def test_post_binary(curl: Curl, url: str, payload: Path) -> None:
    assert curl("--data-binary", f"@{payload}", f"{url}/echo") == PAYLOAD


def test_post_form_and_json(curl: Curl, url: str) -> None:
    assert curl("-d", "a=1&b=2", f"{url}/echo") == b"a=1&b=2"
    assert curl("-F", "name=value", f"{url}/upload").isdigit()


def test_chunked_upload_from_a_pipe(curl: Curl, url: str) -> None:
    assert curl("-T", "-", f"{url}/echo", data=PAYLOAD) == PAYLOAD
    assert curl("-T", "-", f"{url}/echo", data=b"") == b""


def test_expect_100_continue(url: str, payload: Path, run: Run) -> None:
    """The wait for it is longer than the whole transfer may take: it must have come."""
    shown = run(
        "curl", "-sSv", "--max-time", "5", "--expect100-timeout", "60",
        "-H", "Expect: 100-continue", "--data-binary", f"@{payload}", f"{url}/upload",
    )  # fmt: skip
    assert shown.stdout == str(len(PAYLOAD)).encode()
    assert b"HTTP/1.1 100 Continue" in shown.stderr


def test_refused_body_is_not_sent(url: str, tmp_path: Path, run: Run) -> None:
    """A length beyond the limit: 413 in place of 100."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(64 * MIB)
    shown = run(
        "curl", "-sS", "--max-time", "10", "--expect100-timeout", "60", "-o", "/dev/null",
        "-H", "Expect: 100-continue", "-w", "%{http_code} %{size_upload}",
        "--data-binary", f"@{large}", f"{url}/upload",
    )  # fmt: skip
    assert shown.stdout == b"413 0"


def test_several_requests_share_a_connection(
    curl: Curl, url: str, server: Process, logged: Logged
) -> None:
    got = curl(url, "--next", "-sS", "-d", "two", f"{url}/echo", "--next", "-sS", f"{url}/pid")
    assert got == b"hellotwo" + str(server.pid).encode()
    lines = logged("HTTP/1.1", 3)
    clients = {re.search(r"127\.0\.0\.1:(\d+)", line)[1] for line in lines}  # type: ignore[index]
    assert len(clients) == 1, lines


def test_parallel(curl: Curl, url: str) -> None:
    got = curl("--parallel", "--parallel-max", "20", f"{url}/big/[1000-1099]")
    assert len(got) == sum(range(1000, 1100))


def test_chunked_download(curl: Curl, url: str) -> None:
    assert curl(f"{url}/stream/3000000") == b"s" * 3_000_000


def test_compressed_and_ranges_are_asked_for_in_vain(curl: Curl, url: str) -> None:
    assert curl("--compressed", url) == b"hello"
    assert curl("-r", "0-1", url) == b"hello"


def test_headers_cookies_and_escapes(curl: Curl, url: str) -> None:
    seen = json.loads(curl("-b", "a=b", "-A", "me/1", "-H", "X-Um: ü", f"{url}/headers"))
    assert seen["cookie"] == "a=b"
    assert seen["user-agent"] == "me/1"
    assert seen["x-um"].encode("latin-1").decode() == "ü"


def test_upgrade_to_http2_is_declined(curl: Curl, url: str) -> None:
    assert curl("--http2", "-w", " %{http_version}", url) == b"hello 1.1"


def test_through_a_unix_socket(curl: Curl, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with Process(flowcore_command("serve", "sut:app", "--unix", str(path)), cwd=HERE):
        assert curl("--unix-socket", str(path), "http://any/") == b"hello"
