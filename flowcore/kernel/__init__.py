"""The compiled kernel's public pieces. Cython users ``cimport`` from ``flowcore.kernel``."""

from flowcore.kernel.pools import BufferPool, Leak, ObjectPool, PooledBuffer
from flowcore.kernel.ring_buffer import RingBuffer
from flowcore.kernel.shared_queue import PeerDied, QueueEmpty, QueueFull, SharedQueue

__all__ = [
    "BufferPool",
    "Leak",
    "ObjectPool",
    "PeerDied",
    "PooledBuffer",
    "QueueEmpty",
    "QueueFull",
    "RingBuffer",
    "SharedQueue",
]
