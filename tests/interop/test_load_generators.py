"""wrk and h2load: every request is answered, with what was asked for."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from harness.served import found

Done = subprocess.CompletedProcess[bytes]
Run = Callable[..., Done]


def output(done: Done) -> str:
    return done.stdout.decode()


def test_wrk(run: Run, url: str) -> None:
    text = output(run(found("wrk"), "-t1", "-c50", "-d1s", url))
    requests = re.search(r"(\d+) requests in", text)
    assert requests and int(requests[1]) > 500, text
    assert "Non-2xx" not in text
    assert "Socket errors" not in text


def test_wrk_pipelined_posts(run: Run, url: str, tmp_path: Path) -> None:
    script = tmp_path / "pipeline.lua"
    script.write_text(
        "init = function()\n"
        "  local one = wrk.format('POST', '/echo', nil, string.rep('a', 100))\n"
        "  batch = string.rep(one, 16)\n"
        "end\n"
        "request = function() return batch end\n"
    )
    shown = run(found("wrk"), "-t1", "-c20", "-d1s", "-s", str(script), url)
    text = output(shown)
    requests = re.search(r"(\d+) requests in", text)
    assert requests and int(requests[1]) > 500, text
    assert "Non-2xx" not in text
    assert "Socket errors" not in text


def test_h2load(run: Run, url: str) -> None:
    shown = run(found("h2load"), "--h1", "-n", "3000", "-c", "20", "-m", "4", f"{url}/big/2000")
    text = output(shown)
    assert "3000 succeeded, 0 failed, 0 errored, 0 timeout" in text, text
    assert "status codes: 3000 2xx" in text, text
