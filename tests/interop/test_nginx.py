"""nginx in front, over connections that it keeps."""

import http.client
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.served import Process, found, until

CONFIG = """
daemon off;
worker_processes 1;
{user}
pid {here}/pid;
error_log {here}/error.log info;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {here}/body;
  proxy_temp_path {here}/proxy;
  fastcgi_temp_path {here}/fastcgi;
  uwsgi_temp_path {here}/uwsgi;
  scgi_temp_path {here}/scgi;
  upstream flowcore {{ server 127.0.0.1:{upstream}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port};
    client_max_body_size 50m;
    location / {{
      proxy_pass http://flowcore;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $remote_addr;
    }}
    location /old/ {{ proxy_pass http://flowcore/; }}
    location /through/ {{
      proxy_pass http://flowcore/;
      proxy_http_version 1.1;
      proxy_request_buffering off;
      proxy_buffering off;
    }}
  }}
}}
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def proxy(server: Process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an nginx that hands everything on."""
    program, here, port = found("nginx"), tmp_path_factory.mktemp("nginx"), free_port()
    user = "user root;" if os.getuid() == 0 else ""
    config = here / "nginx.conf"
    config.write_text(CONFIG.format(user=user, here=here, upstream=server.port, port=port))
    command = [program, "-p", str(here), "-e", str(here / "error.log"), "-c", str(config)]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until(lambda: accepts(port) or child.poll() is not None, 10, "nginx listens")
        assert child.poll() is None, Path(here, "error.log").read_text()
        yield port
    finally:
        child.terminate()
        child.wait(10)
    # It tells of every reply of the upstream that it could not understand or that was cut.
    log = Path(here, "error.log").read_text()
    assert not re.search(r"\[(error|crit|alert|emerg)\]", log), log


@pytest.fixture
def conn(proxy: int) -> Iterator[http.client.HTTPConnection]:
    conn = http.client.HTTPConnection("127.0.0.1", proxy, timeout=10)
    yield conn
    conn.close()


def ask(
    conn: http.client.HTTPConnection, method: str, target: str, body: object = None
) -> tuple[int, bytes]:
    conn.request(method, target, body=body)  # type: ignore[arg-type]
    reply = conn.getresponse()
    return reply.status, reply.read()


@pytest.mark.parametrize("way", ["", "/old", "/through"])
def test_requests_through_nginx(conn: http.client.HTTPConnection, way: str) -> None:
    body = bytes(range(256)) * 4000
    for _ in range(3):
        assert ask(conn, "GET", f"{way}/") == (200, b"hello")
        assert ask(conn, "HEAD", f"{way}/") == (200, b"")
        assert ask(conn, "POST", f"{way}/echo", body) == (200, body)
        assert ask(conn, "POST", f"{way}/echo", iter([body, b"end"])) == (200, body + b"end")
        assert ask(conn, "GET", f"{way}/stream/1000000") == (200, b"s" * 1_000_000)
        assert ask(conn, "GET", f"{way}/big/1000000") == (200, bytes(1_000_000))
        assert ask(conn, "GET", f"{way}/nowhere")[0] == 404


@pytest.mark.parametrize("way", ["", "/old", "/through"])
def test_refusal_reaches_the_client(conn: http.client.HTTPConnection, way: str) -> None:
    """nginx sends all of the body before it reads: the rest must not be met by a reset."""
    assert ask(conn, "POST", f"{way}/upload", bytes(40_000_000))[0] == 413


def test_nginx_keeps_its_connections(
    conn: http.client.HTTPConnection, logged: Callable[[str, int], list[str]]
) -> None:
    for _ in range(20):
        assert ask(conn, "GET", "/?kept")[0] == 200
    lines = logged("GET /?kept", 20)
    clients = {re.search(r"127\.0\.0\.1:(\d+)", line)[1] for line in lines}  # type: ignore[index]
    assert len(clients) == 1, clients


def test_forwarded_headers_arrive(conn: http.client.HTTPConnection) -> None:
    status, body = ask(conn, "GET", "/headers")
    assert status == 200
    assert b'"x-forwarded-for":"127.0.0.1"' in body
