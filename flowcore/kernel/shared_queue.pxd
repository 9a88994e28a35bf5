from libc.stdint cimport int64_t, uint16_t

from flowcore.kernel.segment cimport Segment
from flowcore.kernel.watch cimport Watch


cdef class SharedQueue(Segment):
    cdef list stash  # taken by a batch but not handed out, the next one last

    cdef int send(
        self, object item, uint16_t kind, uint16_t aux, bint block, object timeout
    ) except -1
    cdef int await_more(self, int64_t deadline) except -1
    cdef object receive(self, bint only_bytes, bint block, object timeout)
    cdef object unstash(self, bint only_bytes)
    cdef list unstash_many(self, Py_ssize_t max_items)
    cdef list unpack_all(self, list found)

    # ---- coroutines: attempts that do not wait, and looks that do, on a thread ----
    cdef Watch message_watch
    cdef Watch room_watch
    cdef size_t room_wanted  # by the coroutine that found no room last
    cdef object no_producer  # PeerDied, for the coroutine that looks next
    cdef object no_consumer

    cdef object attempt_get(self)
    cdef object attempt_get_many(self, Py_ssize_t max_items)
    cdef object attempt_put(self, object item)
    cdef int watch_messages(self, int op) except -1
    cdef int look_for_message(self) except -1
    cdef int look_for_room(self) except -1


cdef class MessageWatch(Watch):
    cdef object queue  # weakly


cdef class RoomWatch(Watch):
    cdef object queue  # weakly
