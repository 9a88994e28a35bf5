"""flowcore: a compiled core for latency-sensitive Python services.

``flowcore.run(main())`` runs an asyncio program on flowcore's event loop; ``flowcore.http`` serves
HTTP on the same reactor.
"""

from flowcore._paths import get_include
from flowcore._version import __version__
from flowcore.loop import EventLoop, EventLoopPolicy, install, new_event_loop, run

__all__ = [
    "EventLoop",
    "EventLoopPolicy",
    "__version__",
    "get_include",
    "install",
    "new_event_loop",
    "run",
]
