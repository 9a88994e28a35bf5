"""Sockets and addresses."""

from flowcore.net.listener import bind_tcp, bind_unix, describe

__all__ = ["bind_tcp", "bind_unix", "describe"]
