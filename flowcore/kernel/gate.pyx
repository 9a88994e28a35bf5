"""Where threads and coroutines wait for one condition of a queue, and are woken together."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from flowcore.kernel.errors cimport error_of
from flowcore.kernel.fc_gate cimport fc_gate_expect, fc_gate_guests, fc_gate_init
from flowcore.kernel.fc_waiter cimport (
    FC_WAITER_NEVER,
    fc_waiter_commit,
    fc_waiter_fini,
    fc_waiter_has_sleepers,
    fc_waiter_notify,
    fc_waiter_notify_all,
    fc_waiter_prepare,
)

import os
from asyncio import _get_running_loop, current_task
from collections import deque

__all__ = []

cdef unsigned int forks = 0


def _forked():
    global forks
    forks += 1


os.register_at_fork(after_in_child=_forked)


@cython.final
cdef class Party:
    """The coroutines of one loop that wait at a gate."""


@cython.final
cdef class Gate:
    """One condition, such as "there are items".

    Whoever waits announces itself (``prepare()`` or ``enter()``), looks at the condition again, and
    then sleeps or leaves. Whoever makes the condition true asks ``fc_gate_watched(&gate.c)``, which
    is all that an operation costs when nobody waits, and then calls ``wake()``. A wake-up is a hint
    to look again: no item is handed over with it, so none is lost with a waiter that gives up.

    A loop gets one ``call_soon_threadsafe()`` for all the wake-ups that come until it has run.
    All methods need the GIL; they keep their counts right between one Python call and the next, as
    each of those may switch threads.
    """

    def __cinit__(self):
        cdef int err = fc_gate_init(&self.c)
        if err < 0:
            raise error_of(err)
        self.parties = {}
        self.generation = forks

    def __dealloc__(self):
        fc_waiter_fini(&self.c.threads)

    cdef int renew(self) except -1:
        """In a forked child: the parent's threads and loops do not wait here."""
        if self.generation != forks:
            self.generation = forks
            self.parties = {}
            fc_waiter_fini(&self.c.threads)
            fc_gate_init(&self.c)
        return 0

    # ---- threads -------------------------------------------------------------------------------

    cdef uint32_t prepare(self) except? 0:
        self.renew()
        return fc_waiter_prepare(&self.c.threads)

    cdef int sleep(self, uint32_t key, int64_t deadline_ns) except -1:
        """Waits without the GIL for a wake-up since ``prepare()`` gave the key, or until
        ``deadline_ns`` of CLOCK_MONOTONIC; -1: none. What a signal's handler raises is raised."""
        cdef uint64_t until = FC_WAITER_NEVER if deadline_ns < 0 else <uint64_t>deadline_ns
        cdef int err
        with nogil:
            err = fc_waiter_commit(&self.c.threads, key, until)
        if err == -EINTR:
            PyErr_CheckSignals()
        return 0

    # ---- both ----------------------------------------------------------------------------------

    cdef int wake(self, Py_ssize_t count) except -1:
        """Wakes as many as ``count`` of those who wait, threads first."""
        self.renew()
        while count and fc_waiter_has_sleepers(&self.c.threads):
            fc_waiter_notify(&self.c.threads)
            count -= 1
        if count and fc_gate_guests(&self.c) > 0:
            self.wake_guests(count)
        return 0

    cdef int wake_all(self) except -1:
        self.renew()
        fc_waiter_notify_all(&self.c.threads)
        if fc_gate_guests(&self.c) > 0:
            self.wake_guests(fc_gate_guests(&self.c))
        return 0

    # ---- coroutines: guests of the gate are the futures that no wake-up is on its way to -------

    cdef int wake_guests(self, Py_ssize_t count) except -1:
        cdef Party party
        cdef Py_ssize_t some
        for party in list(self.parties.values()):
            some = min(count, len(party.futures) - party.owed)
            if some <= 0:
                continue
            party.owed += some
            fc_gate_expect(&self.c, <int32_t>-some)
            count -= some
            if not self.post(party):
                count += some
            if not count:
                break
        return 0

    cdef int post(self, Party party) except -1:
        """Has the loop hand out what is owed. False: the loop is closed, and its party dropped."""
        if party.called:
            return True
        party.called = True
        try:
            # Inside one of the loop's own tasks the loop is awake. Without a task this may be a
            # signal's handler, run while the loop sleeps.
            if _get_running_loop() is party.loop and current_task(party.loop) is not None:
                party.loop.call_soon(self._hand_out, party)
            else:
                party.loop.call_soon_threadsafe(self._hand_out, party)
        except RuntimeError:
            if not party.loop.is_closed():
                raise
            self.drop(party)
            return False
        except BaseException:
            # What a signal's handler raises in there must not cost the loop its wake-up.
            party.loop.call_soon_threadsafe(self._hand_out, party)
            raise
        return True

    def _hand_out(self, Party party):
        """On the party's loop: wakes as many of its coroutines as it is owed."""
        cdef Py_ssize_t owed = party.owed
        cdef Py_ssize_t change = owed
        party.called = False
        party.owed = 0
        while owed and party.futures:
            future = party.futures.popleft()
            change -= 1
            # One that is cancelled and has not left yet is no taker.
            if not future.done():
                future.set_result(None)
                owed -= 1
        if self.counts(party):
            fc_gate_expect(&self.c, <int32_t>change)
        if owed:
            self.wake(owed)

    cdef int drop(self, Party party) except -1:
        fc_gate_expect(&self.c, <int32_t>(party.owed - len(party.futures)))
        party.owed = 0
        party.futures.clear()
        self.parties.pop(party.loop, None)
        return 0

    cdef Party party_of(self, object loop):
        cdef Party party = self.parties.get(loop)
        if party is not None:
            return party
        for party in list(self.parties.values()):
            if party.loop.is_closed():
                self.drop(party)
        party = Party.__new__(Party)
        party.loop = loop
        party.futures = deque()
        self.parties[loop] = party
        return party

    cdef bint counts(self, Party party) except -1:
        """Whether the party's futures are among the guests: not those from before a fork."""
        return self.parties.get(party.loop) is party

    cdef int enter(self, Party party, object future, bint first) except -1:
        """A future of the party's loop to be resolved by a wake-up. Who enters must look at the
        condition again. ``first``: it was woken once and found nothing, so it keeps its place."""
        if first:
            party.futures.appendleft(future)
        else:
            party.futures.append(future)
        fc_gate_expect(&self.c, 1)
        return 0

    cdef int leave(self, Party party, object future) except -1:
        """The future's coroutine goes, maybe with a wake-up that another one then needs."""
        try:
            party.futures.remove(future)
        except ValueError:
            if not future.cancelled():
                self.wake(1)
            return 0
        if party.owed > len(party.futures):
            party.owed -= 1
            self.wake(1)
        elif self.counts(party):
            fc_gate_expect(&self.c, -1)
        return 0
