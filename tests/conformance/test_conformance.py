"""What CPython's own tests ask of an event loop, asked of flowcore's."""

import atexit
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from conformance.pool import LIMIT_S, Pool

POOL = Pool("flowcore:EventLoop")
atexit.register(POOL.close)

# The loop is the same in the wheel: once a Python is enough.
pytestmark = pytest.mark.source_tree

needs_suite = pytest.mark.skipif(
    POOL.missing is not None, reason=f"needs CPython's test suite: {POOL.missing}"
)

# What the suites of all versions have. Fewer would mean that the harness no longer finds them.
KNOWN = {
    "test_buffered_proto.BufferedProtocolSelectorTests",
    "test_events.EventLoopTestsMixin",
    "test_events.SubprocessTestsMixin",
    "test_locks.LockTests",
    "test_runners.RunnerTests",
    "test_sendfile.SendfileMixin",
    "test_sendfile.SockSendfileMixin",
    "test_server.SelectorStartServerTests",
    "test_sock_lowlevel.BaseSockTestsMixin",
    "test_streams.StreamTests",
    "test_subprocess.SubprocessThreadedWatcherTests",
    "test_tasks.CTask_CFuture_Tests",
    "test_unix_events.SelectorEventLoopUnixSocketTests",
}


@needs_suite
def test_the_suites_are_found() -> None:
    assert {f"{test['module']}.{test['group']}" for test in POOL.tests} >= KNOWN


@pytest.fixture(scope="module")
def verdicts(request: pytest.FixtureRequest) -> Iterator[dict[int, "Future[dict[str, Any]]"]]:
    """What becomes of the tests that were selected. They run ahead of being asked for."""
    wanted = [
        item.callspec.params["number"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    ]
    yield {number: POOL.submit(number) for number in wanted}
    POOL.close()


@needs_suite
@pytest.mark.timeout(3 * LIMIT_S)
@pytest.mark.parametrize(
    "number", range(len(POOL.tests)), ids=[test["name"] for test in POOL.tests]
)
def test_of_cpython(number: int, verdicts: dict[int, "Future[dict[str, Any]]"]) -> None:
    verdict = verdicts[number].result()
    if verdict["outcome"] == "skipped":
        pytest.skip(verdict["reason"])
    assert verdict["outcome"] == "passed", f"{verdict['reason']}\n{verdict['log']}"
