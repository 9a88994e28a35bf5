"""CPython's own tests of asyncio, found in the running interpreter and run on a loop of our choice.

The tests reach a loop by three names (`asyncio.SelectorEventLoop`, `asyncio.BaseEventLoop`, and
`asyncio.EventLoop` from 3.13 on) and by the default policy; all are given the loop under test. A
test that makes none of these is told by the count of loops made.
"""

import asyncio
import importlib
import inspect
import unittest
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, ModuleType

from conformance.exceptions import SKIPPED, reason

PACKAGE = "test.test_asyncio"

# Left out: tests of one class of the standard library's by itself (base_events, selector_events,
# protocols, transports), and of Windows.
MODULES = [
    "test_buffered_proto",
    "test_context",
    "test_eager_task_factory",
    "test_events",
    "test_free_threading",
    "test_futures",
    "test_futures2",
    "test_locks",
    "test_pep492",
    "test_queues",
    "test_runners",
    "test_sendfile",
    "test_server",
    "test_sock_lowlevel",
    "test_ssl",
    "test_sslproto",
    "test_staggered",
    "test_streams",
    "test_subprocess",
    "test_taskgroups",
    "test_tasks",
    "test_threads",
    "test_timeouts",
    "test_unix_events",
    "test_waitfor",
]

# A mock of a loop, which the tests' own utilities have; and names by which a loop is asked for.
MOCKS = {"TestLoop", "new_test_loop"}
MAKERS = {"new_event_loop", "Runner", "SelectorEventLoop"}


@dataclass(frozen=True)
class Test:
    """One test: where it is loaded from, and the class it is counted under."""

    module: str
    case: str
    method: str
    group: str

    @property
    def name(self) -> str:
        return f"{self.module}.{self.group}.{self.method}"


class Substitute:
    """Puts a loop's class where the tests look for one, and counts what is made of it."""

    def __init__(self, loop: type[asyncio.AbstractEventLoop]) -> None:
        self.made = 0
        substitute = self

        def init(self: asyncio.AbstractEventLoop) -> None:
            substitute.made += 1
            loop.__init__(self)

        body = {"__init__": init, "__module__": loop.__module__}
        counted = type(loop.__name__, (loop,), body)
        for name in ("SelectorEventLoop", "BaseEventLoop", "EventLoop"):
            if hasattr(asyncio, name):
                setattr(asyncio, name, counted)
        asyncio.DefaultEventLoopPolicy._loop_factory = counted  # type: ignore[attr-defined]
        public_close(importlib.import_module(f"{PACKAGE}.utils").TestCase)


def public_close(case: type[unittest.TestCase]) -> None:
    """Has the tests' clean-up close a loop without a look at its private fields, for loops without
    these: half of uvloop's tests would fail in it, whatever they test."""
    original = case.close_loop  # type: ignore[attr-defined]

    def close_loop(loop: asyncio.AbstractEventLoop) -> None:
        if hasattr(loop, "_default_executor"):
            original(loop)
        elif not loop.is_closed():
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    case.close_loop = staticmethod(close_loop)  # type: ignore[attr-defined]


def modules() -> Iterator[tuple[str, ModuleType]]:
    for name in MODULES:
        try:
            yield name, importlib.import_module(f"{PACKAGE}.{name}")
        except (ModuleNotFoundError, unittest.SkipTest):
            # Not in this version, or not for this platform.
            continue


def cases(module: ModuleType) -> Iterator[type[unittest.TestCase]]:
    """The test cases of a module. Of those that differ in the standard loop they run on, and not in
    what they run, there is one."""
    seen = set()
    for case in vars(module).values():
        if not (isinstance(case, type) and issubclass(case, unittest.TestCase)):
            continue
        if case.__module__ != module.__name__ or getattr(case, "__unittest_skip__", False):
            continue
        if "create_event_loop" in vars(case):
            if case.__bases__ in seen:
                continue
            seen.add(case.__bases__)
            # Its own may pass a selector, which is for the standard loop alone.
            case.create_event_loop = (  # type: ignore[attr-defined]
                lambda self: asyncio.SelectorEventLoop()
            )
        yield case


def names(code: CodeType) -> set[str]:
    """The global names and attributes that a function and those inside it mention."""
    inner = [names(const) for const in code.co_consts if isinstance(const, CodeType)]
    return set(code.co_names).union(*inner)


def mocked(case: type[unittest.TestCase], method: str) -> bool:
    """Whether the test runs on a mock of a loop, and so on no loop that could be tested."""

    def mentions(function: Callable[..., object]) -> set[str]:
        code = getattr(inspect.unwrap(function), "__code__", None)
        return names(code) if code else set()

    own = mentions(getattr(case, method))
    return bool(MOCKS & (own | mentions(case.setUp))) and not MAKERS & own


def tests() -> Iterator[Test]:
    for name, module in modules():
        for case in cases(module):
            for method in unittest.defaultTestLoader.getTestCaseNames(case):
                group = case.__name__
                if "create_event_loop" in vars(case):
                    # Its name is the standard loop's; what it runs has the mixin's.
                    group = next(c.__name__ for c in case.__mro__ if method in vars(c))
                test = Test(name, case.__name__, method, group)
                if not mocked(case, method) and not reason(SKIPPED, test.name):
                    yield test
