"""The standard library's own tests of an event loop, where the interpreter ships them."""

import importlib
import unittest

import pytest

import flowcore

events = pytest.importorskip("test.test_asyncio.test_events", reason="needs CPython's test suite")
utils = importlib.import_module("test.test_asyncio.utils")

# Each holds tests that ask their subclass for a loop to run on.
MODULES = ["test_sock_lowlevel", "test_buffered_proto", "test_server", "test_sendfile"]


def on_this_loop(name: str, *bases: type) -> type:
    make = {"create_event_loop": lambda self: flowcore.new_event_loop(), "__module__": __name__}
    return type(name, bases, make)


for _module in MODULES:
    for _name, _case in vars(importlib.import_module(f"test.test_asyncio.{_module}")).items():
        if (
            isinstance(_case, type)
            and issubclass(_case, unittest.TestCase)
            and hasattr(_case, "create_event_loop")
        ):
            globals()[f"{_module}_{_name}"] = on_this_loop(f"{_module}_{_name}", _case)
del _case

TestEvents = on_this_loop("TestEvents", events.UnixEventLoopTestsMixin, utils.TestCase)
