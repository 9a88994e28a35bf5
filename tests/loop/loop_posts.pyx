# cython: language_level=3
"""Work that threads without the GIL post to a loop; see test_posts.py."""

from flowcore.kernel.fc_reactor cimport fc_post
from flowcore.loop.core cimport LoopCore

cdef enum:
    MOST = 64

# The post comes first, so a pointer to one is a pointer to the letter.
ctypedef struct Letter:
    fc_post post
    void *inbox
    int number


cdef void run(fc_post *post) noexcept:
    cdef Letter *letter = <Letter *>post
    (<Inbox>letter.inbox).take(letter.number)


cdef class Inbox:
    """Calls ``receive(number)`` on the loop for each letter."""

    cdef LoopCore loop
    cdef object receive
    cdef Letter letters[MOST]

    def __init__(self, LoopCore loop not None, receive):
        self.loop = loop
        self.receive = receive

    cdef int take(self, int number) except -1:
        try:
            self.receive(number)
        except BaseException:
            self.loop.keep_failure()
        return 0

    def send(self, int first, int count):
        """Posts the numbers from ``first`` on, each in the letter of its number."""
        cdef int i
        cdef bint open = True
        if first < 0 or first + count > MOST:
            raise ValueError("there are not so many letters")
        with nogil:
            for i in range(first, first + count):
                self.letters[i].post.run = run
                self.letters[i].inbox = <void *>self
                self.letters[i].number = i
                open = self.loop.post(&self.letters[i].post)
        return open
