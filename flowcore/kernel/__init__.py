"""The compiled kernel's public pieces. Cython users ``cimport`` from ``flowcore.kernel``."""

from flowcore.kernel.pools import BufferPool, Leak, ObjectPool, PooledBuffer
from flowcore.kernel.queues import MPMCQueue, SPSCQueue
from flowcore.kernel.ring_buffer import RingBuffer
from flowcore.kernel.shared_queue import PeerDied, SharedQueue
from flowcore.kernel.waiting import QueueClosed, QueueEmpty, QueueFull

__all__ = [
    "BufferPool",
    "Leak",
    "MPMCQueue",
    "ObjectPool",
    "PeerDied",
    "PooledBuffer",
    "QueueClosed",
    "QueueEmpty",
    "QueueFull",
    "RingBuffer",
    "SPSCQueue",
    "SharedQueue",
]
