"""Buffer and object pools: reuse, bounds, views, leaks, threads, re-entrance, fork, shutdown."""

import gc
import os
import random
import subprocess
import sys
import threading
import warnings

import numpy
import pytest

from flowcore.errors import InvalidArgument, InvalidState
from flowcore.kernel import BufferPool, ObjectPool, PooledBuffer

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture
def pool():
    return BufferPool()


def address(buffer):
    return numpy.frombuffer(buffer, dtype="u1").ctypes.data


# ---- buffers -----------------------------------------------------------------------------------


def test_a_buffer_is_bytes_to_write(pool):
    buffer = pool.acquire(100)
    assert (len(buffer), buffer.capacity, buffer.pooled, buffer.released) == (100, 128, True, False)
    view = memoryview(buffer)
    assert (view.nbytes, view.format, view.readonly) == (100, "B", False)
    view[:] = bytes(range(100))
    numpy.frombuffer(buffer, dtype="<u2")[1] = 0xFFFF
    assert bytes(buffer)[:6] == b"\0\1\xff\xff\4\5"


def test_the_name_of_pep_688(pool):
    assert pool.acquire(10).__buffer__(0).nbytes == 10


def test_an_empty_buffer(pool):
    with pool.acquire(0) as buffer:
        assert len(buffer) == 0 and bytes(buffer) == b""


def test_what_is_released_is_next(pool):
    first = pool.acquire(1000)
    where = address(first)
    first.release()
    second = pool.acquire(900)
    assert address(second) == where
    assert address(pool.acquire(1000)) != where
    assert pool.stats()["hits"] == 1 and pool.stats()["misses"] == 2


def test_use_after_release(pool):
    buffer = pool.acquire(10)
    buffer.release()
    buffer.release()
    assert buffer.released and "released" in repr(buffer)
    assert pool.stats()["idle"] == 1, "it went back once"
    with pytest.raises(BufferError):
        memoryview(buffer)
    for use in (lambda: len(buffer), lambda: buffer.capacity, lambda: buffer.pooled,
                buffer.__enter__):
        with pytest.raises(InvalidState):
            use()


def test_views_keep_the_bytes_after_release(pool):
    with pool.acquire(64) as buffer:
        view = memoryview(buffer)
        array = numpy.frombuffer(buffer, dtype="u1")
        view[:4] = b"kept"
        where = array.ctypes.data
    assert buffer.released
    other = pool.acquire(64)
    assert address(other) != where
    view.release()
    del buffer
    memoryview(other)[:4] = b"over"
    assert array[:4].tobytes() == b"kept"
    assert pool.stats()["live"] == 2
    del array
    assert pool.stats()["live"] == 1
    assert address(pool.acquire(64)) == where


def test_a_view_keeps_a_dropped_buffer_and_its_pool():
    pool = BufferPool()
    view = memoryview(pool.acquire(10))
    view[:] = b"0123456789"
    del pool
    gc.collect()
    assert view == b"0123456789"


def test_a_dropped_buffer_goes_back(pool):
    pool.acquire(10)
    stats = pool.stats()
    assert (stats["live"], stats["idle"], stats["unreleased"]) == (0, 1, 1)


def test_buffers_come_from_pools_only():
    with pytest.raises(TypeError):
        PooledBuffer()
    empty = PooledBuffer.__new__(PooledBuffer)
    assert empty.released
    empty.release()
    with pytest.raises(BufferError):
        memoryview(empty)
    with pytest.raises(InvalidState):
        len(empty)


def test_the_bound_falls_back_to_the_heap():
    pool = BufferPool(max_bytes=1000)
    held = [pool.acquire(256) for _ in range(5)]
    assert [each.pooled for each in held] == [True] * 3 + [False] * 2
    memoryview(held[4])[:] = b"h" * 256
    stats = pool.stats()
    assert (stats["exhausted"], stats["heap_fallbacks"], stats["live"]) == (2, 2, 5)
    assert stats["pooled_bytes"] == 768 <= 1000
    for each in held:
        each.release()
    assert (pool.stats()["idle"], pool.stats()["live"]) == (3, 0)
    assert pool.acquire(256).pooled


def test_above_the_largest_class(pool):
    with pool.acquire(5 << 20) as buffer:
        assert not buffer.pooled and buffer.capacity == 5 << 20
        memoryview(buffer)[-1] = 1
    assert pool.stats()["oversize"] == pool.stats()["heap_fallbacks"] == 1
    assert pool.stats()["idle"] == 0


def test_classes_of_ones_own():
    pool = BufferPool([10, 100])
    assert [pool.acquire(n).capacity for n in (0, 10, 11, 100, 101)] == [10, 10, 100, 100, 101]


@pytest.mark.parametrize(
    "arguments",
    [
        {"size_classes": []}, {"size_classes": [0]}, {"size_classes": [-5]},
        {"size_classes": [2, 1]}, {"size_classes": [3, 3]}, {"size_classes": range(1, 50)},
        {"size_classes": [2**61]}, {"max_bytes": -1}, {"trim_interval": -1},
    ],
)
def test_arguments_that_are_refused(arguments):
    with pytest.raises(InvalidArgument):
        BufferPool(**arguments)


def test_sizes_that_are_refused(pool):
    with pytest.raises(InvalidArgument):
        pool.acquire(-1)
    with pytest.raises(OverflowError):
        pool.acquire(2**64)
    with pytest.raises(MemoryError):
        pool.acquire(2**62)
    with pytest.raises(TypeError):
        pool.acquire("10")
    assert pool.stats()["live"] == 0


def test_trimming_keeps_what_was_needed(pool):
    held = [pool.acquire(4096) for _ in range(20)]
    del held
    assert pool.trim() == 0
    pool.acquire(4096).release()
    assert pool.trim() == 19
    stats = pool.stats()
    assert (stats["idle"], stats["pooled_bytes"], stats["trimmed"]) == (1, 4096, 19)
    assert stats["high_water"] == 20


def test_trimming_by_itself():
    pool = BufferPool(trim_interval=100)
    held = [pool.acquire(64) for _ in range(20)]
    del held
    for _ in range(200):
        pool.acquire(64).release()
    assert pool.stats()["idle"] == 1


def test_close(pool):
    out = pool.acquire(64)
    pool.acquire(64).release()
    with pool:
        memoryview(out)[:3] = b"out"
    assert pool.is_closed and pool.stats()["idle"] == 0
    with pytest.raises(InvalidState):
        pool.acquire(1)
    assert bytes(out)[:3] == b"out"
    out.release()
    assert pool.stats()["pooled_bytes"] == 0
    pool.close()


# ---- leaks -------------------------------------------------------------------------------------


def test_the_leak_report_names_the_place():
    pool = BufferPool(debug=True)

    def careless():
        return pool.acquire(123)

    held = careless()
    pool.acquire(5).release()
    (leak,) = pool.leaks()
    nearest, *callers = leak.place.split(" < ")
    line = careless.__code__.co_firstlineno + 1
    assert nearest == f"{__file__}:{line} in careless"
    assert "test_the_leak_report_names_the_place" in callers[0]
    assert leak.nbytes == 123 and 0 <= leak.age_s < 60
    held.release()
    assert pool.leaks() == []


def test_a_dropped_buffer_is_warned_of_in_debug_mode():
    pool = BufferPool(debug=True)
    with pytest.warns(ResourceWarning, match=r"77 bytes was dropped; acquired at .*test_pools\.py"):
        pool.acquire(77)
    assert pool.leaks() == [] and pool.stats()["live"] == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool.acquire(77).release()


def test_a_warning_that_is_an_error_loses_nothing(monkeypatch):
    pool = BufferPool(debug=True)
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: seen.append(args.exc_type))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool.acquire(77)
    assert seen == [ResourceWarning]
    assert pool.leaks() == [] and pool.stats()["live"] == 0


def test_no_report_without_debug(pool):
    with pytest.raises(InvalidState):
        pool.leaks()


# ---- threads, fork, memory ---------------------------------------------------------------------


def test_threads_share_a_pool():
    pool = BufferPool(max_bytes=100_000)
    errors = []
    passing = [None] * 20

    def work(seed):
        rng = random.Random(seed)
        for i in range(3000):
            buffer = pool.acquire(8 + rng.randrange(3000))
            view = memoryview(buffer)
            view[:8] = (seed << 32 | i).to_bytes(8, "big")
            slot = rng.randrange(len(passing))
            passing[slot], other = (view, buffer), passing[slot]
            if view[:8] != (seed << 32 | i).to_bytes(8, "big"):
                errors.append(i)
            if other is not None:
                other[0].release()
                other[1].release()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    passing.clear()
    stats = pool.stats()
    assert stats["live"] == 0 and stats["pooled_bytes"] <= 100_000
    assert stats["hits"] + stats["misses"] + stats["heap_fallbacks"] == 12_000


def test_a_forked_child_has_its_own_pool(pool):
    held = pool.acquire(64)
    memoryview(held)[:6] = b"parent"
    pid = os.fork()
    if pid == 0:
        memoryview(held)[:6] = b"child!"
        held.release()
        ok = pool.acquire(64).pooled and pool.stats()["live"] == 0
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert bytes(held)[:6] == b"parent" and pool.stats()["live"] == 1


def resident_kb():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def test_nothing_grows():
    def work():
        pool = BufferPool(max_bytes=1 << 20, debug=True)
        held = [pool.acquire(n * 37) for n in range(500)]
        views = [memoryview(each) for each in held]
        for each in held:
            each.release()
        del views, held
        assert pool.stats()["live"] == 0
        objects = ObjectPool(bytearray, max_idle=5)
        for _ in range(100):
            with objects.lease() as one, objects.lease() as two:
                assert one is not two

    for _ in range(20):
        work()
    gc.collect()
    before, objects = resident_kb(), len(gc.get_objects())
    for _ in range(50):
        work()
    gc.collect()
    assert len(gc.get_objects()) - objects < 100
    assert resident_kb() - before < 2048


def test_acquiring_takes_no_reference_for_ever(pool):
    before = sys.getrefcount(pool)
    held = [pool.acquire(10) for _ in range(100)]
    assert sys.getrefcount(pool) == before + 100
    del held
    assert sys.getrefcount(pool) == before


# ---- objects -----------------------------------------------------------------------------------


class Thing:
    pass


def test_the_last_given_back_comes_first():
    pool = ObjectPool(Thing)
    first, second = pool.acquire(), pool.acquire()
    pool.release(first)
    pool.release(second)
    assert len(pool) == 2
    assert pool.acquire() is second
    assert pool.acquire() is first
    assert pool.acquire() not in (first, second)
    assert (pool.created, pool.reused, pool.dropped) == (3, 2, 0)


def test_reset_runs_before_an_object_is_kept():
    pool = ObjectPool(list, list.clear)
    thing = pool.acquire()
    thing.append(1)
    pool.release(thing)
    assert thing == [] and pool.acquire() is thing


def test_max_idle_drops_the_rest():
    pool = ObjectPool(Thing, max_idle=2)
    for each in [pool.acquire() for _ in range(5)]:
        pool.release(each)
    assert (len(pool), pool.dropped) == (2, 3)
    none = ObjectPool(Thing, max_idle=0)
    none.release(none.acquire())
    assert len(none) == 0


def test_lease_gives_back_after_an_error_too():
    pool = ObjectPool(Thing)
    lease = pool.lease()
    with pytest.raises(KeyError), lease as thing:
        assert len(pool) == 0
        raise KeyError
    assert len(pool) == 1
    with lease as again, lease as other:
        assert again is thing and other is not thing
    assert len(pool) == 2


def test_the_same_object_twice_is_refused():
    pool = ObjectPool(Thing)
    thing = pool.acquire()
    pool.release(thing)
    with pytest.raises(InvalidState):
        pool.release(thing)
    assert len(pool) == 1


def test_a_reset_that_releases_does_not_keep_it_twice():
    inner = []

    def reset(obj):
        if not inner:
            inner.append(obj)
            pool.release(obj)

    pool = ObjectPool(Thing, reset)
    with pytest.raises(InvalidState):
        pool.release(pool.acquire())
    assert len(pool) == 1


def test_a_reset_that_fails_drops_the_object():
    def reset(obj):
        raise ZeroDivisionError

    pool = ObjectPool(Thing, reset)
    with pytest.raises(ZeroDivisionError):
        pool.release(pool.acquire())
    assert (len(pool), pool.dropped) == (0, 1)


def test_a_factory_that_fails_counts_nothing():
    def factory():
        raise ZeroDivisionError

    pool = ObjectPool(factory)
    with pytest.raises(ZeroDivisionError):
        pool.acquire()
    assert pool.created == 0


def test_a_factory_may_use_its_pool():
    def factory():
        if pool.created == 0 and not started:
            started.append(True)
            pool.release(pool.acquire())
        return Thing()

    started = []
    pool = ObjectPool(factory)
    assert pool.acquire() is not pool.acquire()
    assert (pool.created, pool.reused) == (2, 1)


def test_arguments_of_an_object_pool():
    with pytest.raises(TypeError):
        ObjectPool(3)
    with pytest.raises(TypeError):
        ObjectPool(Thing, 3)
    with pytest.raises(InvalidArgument):
        ObjectPool(Thing, max_idle=-1)
    assert ObjectPool[Thing].__origin__ is ObjectPool


def test_a_closed_object_pool():
    pool = ObjectPool(Thing)
    out = pool.acquire()
    pool.release(pool.acquire())
    pool.close()
    pool.close()
    assert pool.is_closed and len(pool) == 0
    pool.release(out)
    assert len(pool) == 0
    with pytest.raises(InvalidState):
        pool.acquire()


def test_finalisers_that_use_the_pool():
    class Returning:
        """Goes back to the pool when it is dropped."""

        def __del__(self):
            seen.append(pool.is_closed)
            pool.release(self)

    seen = []
    pool = ObjectPool(Returning, max_idle=3)
    pool.acquire()
    assert (len(pool), seen) == (1, [False])
    pool.close()
    gc.collect()
    assert len(pool) == 0


def test_cycles_through_a_pool_are_collected():
    pool = ObjectPool(Thing)
    thing = pool.acquire()
    thing.pool = pool
    pool.release(thing)
    alive = []
    thing.__class__ = type("Watched", (Thing,), {"__del__": lambda self: alive.append("gone")})
    del pool, thing
    gc.collect()
    assert alive == ["gone"]


def test_threads_share_an_object_pool():
    class Exclusive:
        users = 0

    pool = ObjectPool(Exclusive, max_idle=3)
    clashes = []

    def work():
        for _ in range(5000):
            with pool.lease() as thing:
                thing.users += 1
                if thing.users != 1:
                    clashes.append(thing)
                thing.users -= 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not clashes
    assert pool.created + pool.reused == 20_000
    assert pool.created - pool.dropped == len(pool)


SHUTDOWN = """
from flowcore.errors import InvalidState
from flowcore.kernel import BufferPool, ObjectPool

buffers = BufferPool(debug=True)
objects = ObjectPool(lambda: Late())

class Late:
    def __init__(self):
        self.buffer = buffers.acquire(10)
        self.view = memoryview(self.buffer)
        self.view[:4] = b"late"
        self.pools = buffers, objects

    def __del__(self):
        self.buffer.release()
        print(bytes(self.view[:4]), self.pools[0].stats()["live"] > 0, flush=True)
        try:
            self.pools[1].release(self)
        except InvalidState:
            print("idle already", flush=True)

kept = objects.acquire()
idle = objects.acquire()
objects.release(idle)
"""


def test_interpreter_shutdown():
    done = subprocess.run([sys.executable, "-c", SHUTDOWN], capture_output=True, text=True)
    assert done.returncode == 0
    said = done.stdout.splitlines()
    assert said.count("b'late' True") == 2 and set(said) <= {"b'late' True", "idle already"}
    assert done.stderr == ""
