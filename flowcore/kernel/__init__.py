"""The compiled kernel's public pieces. Cython users ``cimport`` from ``flowcore.kernel``."""

from flowcore.kernel.pools import BufferPool, Leak, ObjectPool, PooledBuffer
from flowcore.kernel.queues import MPMCQueue, SPSCQueue
from flowcore.kernel.record_queues import MPMCRecordQueue, SPSCRecordQueue
from flowcore.kernel.ring_buffer import RingBuffer
from flowcore.kernel.shared_queue import PeerDied, SharedQueue
from flowcore.kernel.waiting import QueueClosed, QueueEmpty, QueueFull
from flowcore.kernel.work_future import WorkFuture
from flowcore.kernel.work_stealing import Priority, WorkStealingPool

__all__ = [
    "BufferPool",
    "Leak",
    "MPMCQueue",
    "MPMCRecordQueue",
    "ObjectPool",
    "PeerDied",
    "PooledBuffer",
    "Priority",
    "QueueClosed",
    "QueueEmpty",
    "QueueFull",
    "RingBuffer",
    "SPSCQueue",
    "SPSCRecordQueue",
    "SharedQueue",
    "WorkFuture",
    "WorkStealingPool",
]
