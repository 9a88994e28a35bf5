"""A thread that watches a gate's condition where only a call that blocks can tell."""

from flowcore.kernel.fc_gate cimport fc_gate_guests
from flowcore.kernel.gate cimport Gate, Party

import threading
import time

__all__ = []

cdef double REST_S = 0.5
cdef double PACE_S = 0.001


cdef class Watch:
    """Wakes the guests of a gate when ``look()`` says that the condition holds.

    The thread starts with the first guest and looks while there are any. Then it rests, and ends
    if no guest comes for half a second. It is a daemon, and holds neither the GIL nor a lock while
    it looks, so that it delays neither a fork nor the interpreter's end.
    """

    def __cinit__(self, Gate gate, *args):
        self.gate = gate
        self.bell = threading.Event()

    cdef int look(self) except -1:
        """Waits for the condition, for a short time and without the GIL. Returns how many guests
        are to be woken, or GONE."""
        raise NotImplementedError

    cdef int arm(self) except -1:
        """To be called after a guest has come."""
        if not self.running:
            self.running = True
            try:
                threading.Thread(target=self._run, name="flowcore-watch", daemon=True).start()
            except BaseException:
                self.running = False
                raise
        elif self.resting:
            self.bell.set()
        return 0

    def _run(self):
        cdef int count
        try:
            while fc_gate_guests(&self.gate.c) > 0 or self.rest():
                count = self.look()
                if count == GONE:
                    break
                if count:
                    self.gate.wake(count)
                    if fc_gate_guests(&self.gate.c) > 0:
                        # Who was woken has its chance before the next is.
                        time.sleep(PACE_S)
                else:
                    self.forget_closed_loops()
        finally:
            # No Python code has run since the last look for guests, so none was missed.
            self.running = False

    cdef bint rest(self) except -1:
        """Waits for a guest. False: there is none."""
        self.bell.clear()
        self.resting = True
        if fc_gate_guests(&self.gate.c) <= 0 and not self.retired:
            self.bell.wait(REST_S)
        self.resting = False
        return fc_gate_guests(&self.gate.c) > 0

    cdef int retire(self) except -1:
        """Ends the thread as soon as there are no guests."""
        self.retired = True
        self.bell.set()
        return 0

    cdef int forget_closed_loops(self) except -1:
        cdef Party party
        for party in list(self.gate.parties.values()):
            if party.loop.is_closed():
                self.gate.drop(party)
        return 0
