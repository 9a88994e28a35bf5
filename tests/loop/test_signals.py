"""Signals: handlers, and Control-C wherever the program stands."""

import asyncio
import os
import signal
import threading
import time

import pytest


def test_handler_runs_in_the_loop_with_its_arguments(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, lambda *got: (seen.append(got), loop.stop()), 1, "a")
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    assert seen == [(1, "a")]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_handler_wakes_a_sleeping_loop(loop):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)

    def send():
        time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGUSR1)

    threading.Thread(target=send).start()
    guard = loop.call_later(30, pytest.fail, "the signal was not seen")
    loop.run_forever()
    guard.cancel()


def test_plain_handler_runs_while_the_loop_sleeps_and_may_schedule(loop):
    seen = []
    old = signal.signal(signal.SIGUSR2, lambda *_: loop.call_soon_threadsafe(done))

    def done():
        seen.append(1)
        loop.stop()

    try:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR2)).start()
        guard = loop.call_later(30, loop.stop)
        loop.run_forever()
        guard.cancel()
    finally:
        signal.signal(signal.SIGUSR2, old)
    assert seen == [1]


def test_many_signals_wake_the_loop_for_each_kind(loop):
    seen = []
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
        loop.add_signal_handler(number, seen.append, number)
        loop.call_soon(os.kill, os.getpid(), number)
    loop.run_until_complete(asyncio.sleep(0.05))
    assert sorted(seen) == sorted([signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP])


def test_an_error_raised_by_a_plain_handler_comes_out_of_a_sleeping_loop(loop):
    class Alarm(Exception):
        pass

    def ring(*_):
        raise Alarm

    old = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.03)
        guard = loop.call_later(30, loop.stop)
        with pytest.raises(Alarm):
            loop.run_forever()
        guard.cancel()
    finally:
        signal.signal(signal.SIGALRM, old)
    assert loop.run_until_complete(asyncio.sleep(0.001, "usable")) == "usable"


INTERRUPTED = """
import asyncio, os, signal, sys, threading, time, flowcore

def interrupt():
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)

async def main():
    threading.Thread(target=interrupt).start()
    try:
        await {body}
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise
    finally:
        await asyncio.sleep(0)
        print("cleaned up", flush=True)

async def spin():
    while True:
        await asyncio.sleep(0)

try:
    flowcore.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("body", ["asyncio.sleep(60)", "asyncio.Event().wait()", "spin()"])
def test_control_c_cancels_the_main_task(script, body):
    result = script(INTERRUPTED.format(body=body), timeout=30)
    assert result.stdout.split("\n") == ["cancelled", "cleaned up", "interrupted", ""]
    assert result.stderr == ""


def test_control_c_in_a_bare_run_forever(script):
    result = script(
        """
import os, signal, threading, flowcore
loop = flowcore.new_event_loop()
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted")
print(loop.is_running())
loop.call_soon(loop.stop)
loop.run_forever()
loop.close()
""",
        timeout=30,
    )
    assert result.stdout == "interrupted\nFalse\n"
    assert result.stderr == ""


def test_control_c_in_a_callback_that_blocks(script):
    result = script(
        """
import os, signal, threading, time, flowcore
loop = flowcore.new_event_loop()
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
loop.call_soon(time.sleep, 20)
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted")
loop.close()
""",
        timeout=15,
    )
    assert result.stdout == "interrupted\n"
    assert result.stderr == ""
