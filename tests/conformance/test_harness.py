"""That the harness tells a good loop from a bad one."""

import pytest

from conformance.pool import Pool

CASES = [
    ("asyncio:SelectorEventLoop", "test_call_later", "passed", ""),
    ("conformance.broken:Deaf", "test_call_later", "failed", "not done within 1.0 s"),
    ("conformance.broken:Wrong", "test_writer_callback", "failed", "None is not true"),
    ("conformance.broken:Fatal", "test_writer_callback", "failed", "the test's process died"),
]


@pytest.mark.parametrize(("loop", "method", "outcome", "reason"), CASES)
def test_verdict(loop: str, method: str, outcome: str, reason: str) -> None:
    pool = Pool(loop, limit_s=1.0 if loop.endswith("Deaf") else 60.0, size=1)
    try:
        if pool.missing is not None:
            pytest.skip(f"needs CPython's test suite: {pool.missing}")
        name = f"test_events.EventLoopTestsMixin.{method}"
        number = next(n for n, test in enumerate(pool.tests) if test["name"] == name)
        verdict = pool.submit(number).result()
        # Whatever became of that one, the next is run.
        assert pool.submit(0).result()["outcome"] in {"passed", "skipped"}
    finally:
        pool.close()
    assert verdict["outcome"] == outcome
    assert reason in verdict["reason"]


def test_a_loop_that_is_not_there_is_told() -> None:
    pool = Pool("no_such_loop:Loop", size=1)
    pool.close()
    assert pool.missing and "no_such_loop" in pool.missing and not pool.tests
