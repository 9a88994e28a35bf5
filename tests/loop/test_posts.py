"""The loop's inbox: threads without the GIL have work run on the loop."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from harness.compiled import compiled

import flowcore

SOURCE = Path(__file__).with_name("loop_posts.pyx")


@pytest.fixture(scope="module")
def posts(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return compiled(SOURCE, tmp_path_factory.mktemp(SOURCE.stem))


def test_posts_wake_a_sleeping_loop_and_keep_their_order(posts: Any) -> None:
    async def main() -> None:
        received: list[int] = []
        arrived = asyncio.Event()

        def receive(number: int) -> None:
            received.append(number)
            if len(received) == 64:
                arrived.set()

        inbox = posts.Inbox(asyncio.get_running_loop(), receive)
        with ThreadPoolExecutor(4) as threads:
            await asyncio.sleep(0.02)
            sent = [threads.submit(inbox.send, 16 * i, 16) for i in range(4)]
            async with asyncio.timeout(10):
                await arrived.wait()
            assert all(each.result() for each in sent)
        assert sorted(received) == list(range(64))
        for i in range(4):
            mine = [number for number in received if number // 16 == i]
            assert mine == sorted(mine)

    flowcore.run(main())


def test_an_error_in_a_post_comes_out_of_the_loop(posts: Any) -> None:
    loop = flowcore.new_event_loop()

    def fail(number: int) -> None:
        raise LookupError(number)

    inbox = posts.Inbox(loop, fail)
    assert inbox.send(3, 1)
    with pytest.raises(LookupError, match="3"):
        loop.run_forever()
    loop.close()
    assert not inbox.send(0, 1)
