"""Each example is started as its first lines say, and answers."""

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.served import Process, environment

CURL = shutil.which("curl")


def serving(root: Path, target: str, *options: str) -> Process:
    command = [sys.executable, "-m", "flowcore", "serve", target, "--port", "0", *options]
    return Process(command, cwd=root)


def ask(
    port: int, path: str, method: str = "GET", body: bytes | None = None
) -> tuple[int, bytes, dict[str, str]]:
    """(status, body, header fields by lower-case name)."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.read(), {k.lower(): v for k, v in reply.headers.items()}
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), {k.lower(): v for k, v in error.headers.items()}


def stopped(process: Process) -> None:
    process.signal(signal.SIGINT)
    assert process.wait(10) == 0, process.log
    assert "Traceback" not in process.log


def test_every_example_has_a_test(root: Path) -> None:
    here = Path(__file__).read_text()
    for path in (root / "examples").iterdir():
        if path.name.startswith("__"):
            continue
        assert f"examples.{path.stem}:app" in here or f'"{path.name}"' in here, path.name


def test_hello(root: Path) -> None:
    with serving(root, "examples.hello:app") as process:
        assert ask(process.port, "/")[:2] == (200, b"Hello, World!\n")
        assert ask(process.port, "/hello/you")[:2] == (200, b'{"hello":"you"}')
        stopped(process)


# ---- the welcome page ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def welcome(root: Path) -> Iterator[Process]:
    with serving(root, "examples.welcome:app") as process:
        yield process
        stopped(process)


def test_welcome_page_needs_nothing_from_elsewhere(welcome: Process) -> None:
    status, body, fields = ask(welcome.port, "/")
    page = body.decode()
    assert status == 200
    assert fields["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in fields["content-security-policy"]
    assert page.startswith("<!doctype html>")
    assert not re.search(r"@[A-Z]+@", page), "a place that was not filled in"
    loaded = re.findall(r"(?:src|href|@import|url)\s*[=(]\s*[\"']?([^\"'\s>)]+)", page)
    assert all(each.startswith("data:") for each in loaded), loaded
    assert "http:" not in page and "https:" not in page


def test_welcome_page_shows_every_curl_line(welcome: Process, root: Path) -> None:
    page = ask(welcome.port, "/")[1].decode()
    shown = re.search(r'<pre[^>]*id="curl">(.*?)</pre>', page, re.DOTALL)
    assert shown
    lines = shown[1].replace("&amp;", "&").replace("&lt;", "<").splitlines()
    assert lines == (root / "examples/welcome/curl.txt").read_text().splitlines()


def test_welcome_page_asks_only_for_what_is_served(welcome: Process) -> None:
    page = ask(welcome.port, "/")[1].decode()
    called = {path.split("?")[0].split("$")[0].rstrip("/") for path in re.findall(r"/api/[\w/${?]*",
                                                                                 page)}
    assert {"/api/ping", "/api/stats", "/api/ticks", "/api/notes"} <= called
    for path in sorted(called):
        assert ask(welcome.port, path + ("?count=1" if "ticks" in path else ""))[0] == 200, path


def test_notes(welcome: Process) -> None:
    port = welcome.port
    status, body, fields = ask(port, "/api/notes", "POST", '{"text": " grüße <b> "}'.encode())
    assert status == 201
    note = json.loads(body)
    assert note["text"] == "grüße <b>"
    assert fields["location"] == f"/api/notes/{note['id']}"
    assert json.loads(ask(port, fields["location"])[1]) == note
    assert note in json.loads(ask(port, "/api/notes")[1])
    assert ask(port, fields["location"], "DELETE")[:2] == (204, b"")
    assert ask(port, fields["location"])[0] == 404
    assert ask(port, fields["location"], "DELETE")[0] == 404
    assert note not in json.loads(ask(port, "/api/notes")[1])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[]", "expected"),
        (b'{"text": 1}', "expected"),
        (b'{"text": "  "}', "expected"),
        (json.dumps({"text": "x" * 501}).encode(), "500"),
    ],
)
def test_notes_that_are_none(welcome: Process, body: bytes, said: str) -> None:
    status, answer, _ = ask(welcome.port, "/api/notes", "POST", body)
    assert status == 400
    assert said in answer.decode()


def test_notes_are_bounded(root: Path) -> None:
    with serving(root, "examples.welcome:app") as process:
        statuses = [
            ask(process.port, "/api/notes", "POST", b'{"text": "x"}')[0] for _ in range(101)
        ]
        assert set(statuses[:99]) == {201}
        assert statuses[99:] == [409, 409]
        number = json.loads(ask(process.port, "/api/notes")[1])[0]["id"]
        assert ask(process.port, f"/api/notes/{number}", "DELETE")[0] == 204
        assert ask(process.port, "/api/notes", "POST", b'{"text": "x"}')[0] == 201


def test_stats_count_requests(welcome: Process) -> None:
    before = json.loads(ask(welcome.port, "/api/stats")[1])
    for _ in range(3):
        ask(welcome.port, "/api/ping")
    after = json.loads(ask(welcome.port, "/api/stats")[1])
    assert after["requests"] == before["requests"] + 4
    assert after["uptime_s"] > before["uptime_s"]
    assert after["pid"] == welcome.pid
    assert after["resident_bytes"] > 1 << 20


def test_ticks_come_one_by_one(welcome: Process) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", welcome.port, timeout=10)
    connection.request("GET", "/api/ticks?count=3")
    reply = connection.getresponse()
    assert json.loads(reply.readline())["tick"] == 1
    assert json.loads(ask(welcome.port, "/api/stats")[1])["open_streams"] == 1
    assert [json.loads(line)["tick"] for line in reply] == [2, 3]
    connection.close()
    assert json.loads(ask(welcome.port, "/api/stats")[1])["open_streams"] == 0


def test_a_stream_whose_reader_leaves_is_ended(welcome: Process) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", welcome.port, timeout=10)
    connection.request("GET", "/api/ticks?count=1000")
    reply = connection.getresponse()
    reply.readline()
    reply.close()
    connection.close()
    for _ in range(100):
        if json.loads(ask(welcome.port, "/api/stats")[1])["open_streams"] == 0:
            return
    pytest.fail("the stream goes on without a reader")


@pytest.mark.parametrize("count", ["0", "1001", "-1", "x", "%D9%A3", "99999999999"])
def test_ticks_are_bounded(welcome: Process, count: str) -> None:
    assert ask(welcome.port, f"/api/ticks?count={count}")[0] == 400


@pytest.mark.skipif(not CURL, reason="needs curl")
def test_the_curl_lines_work_in_their_order(root: Path) -> None:
    lines = (root / "examples/welcome/curl.txt").read_text().splitlines()
    answers = []
    with serving(root, "examples.welcome:app") as process:
        for line in lines:
            command = line.replace("BASE", f"http://127.0.0.1:{process.port}")
            quiet = command.replace("curl ", "curl --silent --show-error --fail ", 1)
            answers.append(subprocess.check_output(quiet, shell=True, text=True, timeout=20))
    assert len(json.loads(answers[0])) == 1
    assert json.loads(answers[1]) == {"id": 2, "text": "water the plants"}
    assert json.loads(answers[2]) == json.loads(answers[0])[0]
    assert answers[3] == ""
    assert json.loads(answers[4])["requests"] == 5
    assert len(answers[5].splitlines()) == 8


@pytest.mark.source_tree
def test_make_run_prints_the_curl_lines(root: Path) -> None:
    make = ["make", "--no-print-directory", "-n", "run", "PORT=8765"]
    planned = subprocess.run(make, cwd=root, capture_output=True, text=True, timeout=60)
    assert planned.returncode == 0, planned.stderr
    printing = [line for line in planned.stdout.splitlines() if "sed " in line]
    assert len(printing) == 1, planned.stdout
    shown = subprocess.check_output(printing[0], shell=True, cwd=root, text=True)
    lines = (root / "examples/welcome/curl.txt").read_text().splitlines()
    wanted = [line.replace("BASE", "http://127.0.0.1:8765") for line in lines]
    assert [line.strip() for line in shown.splitlines()][-len(lines) :] == wanted
    assert "serve examples.welcome:app --port 8765" in planned.stdout


# ---- the others ----------------------------------------------------------------------------------


def test_streaming(root: Path) -> None:
    with serving(root, "examples.streaming:app") as process:
        assert ask(process.port, "/countdown/2")[:2] == (200, b"2\n1\ndone\n")
        assert ask(process.port, "/countdown/1001")[0] == 400
        status, body, _ = ask(process.port, "/zeros/200000")
        assert (status, body) == (200, bytes(200000))
        connection = http.client.HTTPConnection("127.0.0.1", process.port, timeout=10)
        connection.request("GET", "/events")
        reply = connection.getresponse()
        assert reply.getheader("content-type") == "text/event-stream"
        events = [reply.readline() for _ in range(6)]
        assert events == [
            b"id: 1\n", b'data: {"number": 1}\n', b"\n", b"id: 2\n", b'data: {"number": 2}\n', b"\n"
        ]
        reply.close()
        connection.close()
        stopped(process)


def test_a_stream_holds_little_for_a_slow_reader(root: Path) -> None:
    with serving(root, "examples.streaming:app") as process:
        before = process.rss_bytes()
        with socket.create_connection(("127.0.0.1", process.port), timeout=10) as reader:
            reader.sendall(b"GET /zeros/1000000000 HTTP/1.1\r\nHost: a\r\n\r\n")
            reader.recv(1000)
            # Answered while the first reader takes nothing.
            assert ask(process.port, "/countdown/1")[0] == 200
            assert process.rss_bytes() - before < 16 << 20


def test_embed(root: Path) -> None:
    command = [sys.executable, str(root / "examples" / "embed.py"), "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as child:
        try:
            assert child.stdout and child.stderr
            numbers = [re.search(r"(\d+)$", child.stdout.readline().strip()) for _ in range(2)]
            assert all(numbers), child.stderr.read()
            port, echo = (int(number[1]) for number in numbers if number)
            with socket.create_connection(("127.0.0.1", echo), timeout=10) as lines:
                lines.sendall(b"one\ntwo\n")
                received = b""
                while len(received) < 8:
                    received += lines.recv(100)
                assert received == b"one\ntwo\n"
                state = json.loads(ask(port, "/")[1])
            assert state["echoed_lines"] == 2
            assert state["samples"] >= 1
            child.send_signal(signal.SIGTERM)
            assert child.wait(10) == 0
            assert child.stderr.read() == ""
        finally:
            child.kill()


def built_and_run(root: Path, name: str, where: Path, *arguments: str) -> str:
    """What the demo.py of an example prints that is compiled first, in a copy of it."""
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    left = shutil.ignore_patterns("build", "*.so", "*.c")
    shutil.copytree(root / "examples" / name, where, ignore=left)
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    done = subprocess.run(
        build, cwd=where, env=environment(), capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    demo = subprocess.run(
        [sys.executable, "demo.py", *arguments], cwd=where, env=environment(), capture_output=True,
        text=True, timeout=60,
    )
    assert (demo.returncode, demo.stderr) == (0, "")
    return demo.stdout


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_cimport_reactor(root: Path, tmp_path: Path) -> None:
    printed = built_and_run(root, "cimport_reactor", tmp_path / "example")
    items, calls = (int(number) for number in re.findall(r"\d+", printed))
    assert items == 24
    assert calls <= 3


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_cimport_queue(root: Path, tmp_path: Path) -> None:
    printed = built_and_run(root, "cimport_queue", tmp_path / "example", "400000")
    copied, in_place, objects = printed.splitlines()
    assert copied.startswith("produce: 400000 ticks, sum 700000.0, ")
    assert in_place.startswith("produce_in_place: 400000 ticks, sum 700000.0, ")
    assert objects == "put_repeatedly: 4000 objects"
