"""A browser that loads and renders a page, and requests as browsers write them."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from harness.peers import Peer
from harness.served import Process, found

FIREFOX = (
    "GET {target} HTTP/1.1\r\n"
    "Host: 127.0.0.1:{port}\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
    "\r\n"
    "Accept-Language: de,en-US;q=0.7,en;q=0.3\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Referer: http://127.0.0.1:{port}/page?q=%C3%BC&r=a+b\r\n"
    "Connection: keep-alive\r\n"
    'Cookie: session=0123456789abcdef; theme="dark"; _ga=GA1.1.1.1\r\n'
    "Upgrade-Insecure-Requests: 1\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Sec-Fetch-User: ?1\r\n"
    "Priority: u=0, i\r\n"
    "DNT: 1\r\n"
    "If-None-Match: W/\"abc\"\r\n"
    "Pragma: no-cache\r\n"
    "Cache-Control: no-cache\r\n"
    "\r\n"
)


def test_firefox_headers(server: Process) -> None:
    with server.peer() as peer:
        for target in ("/headers", "/page", "/page?q=%C3%BC&r=a+b;c", "/headers"):
            peer.send(FIREFOX.format(target=target, port=server.port).encode())
            reply = peer.reply()
            assert reply.status == 200
        assert '"sec-fetch-user":"?1"' in reply.text
        assert reply.text.count('":') == FIREFOX.count("\r\n") - 2


def test_favicon_nobody_wrote_is_404(server: Process) -> None:
    with Peer(server.port) as peer:
        peer.send(FIREFOX.format(target="/favicon.ico", port=server.port).encode())
        assert peer.reply().status == 404


def test_chromium_loads_and_renders(
    run: Callable[..., "subprocess.CompletedProcess[bytes]"], url: str, tmp_path: Path
) -> None:
    """The page's script posts to the server and puts the reply into the page."""
    program = found("chromium", "chromium-browser", "google-chrome", "chrome")
    shown = run(
        program, "--headless", "--disable-gpu", "--no-first-run", "--disable-extensions",
        "--disable-dev-shm-usage", "--disable-background-networking",
        f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000",
        *(["--no-sandbox"] if os.getuid() == 0 else []),
        "--dump-dom", f"{url}/page", within_s=60,
    )  # fmt: skip
    page = shown.stdout.decode()
    assert '<h1 id="h">from the page</h1>' in page, page
