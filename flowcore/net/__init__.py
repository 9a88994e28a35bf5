"""Sockets and addresses."""

from flowcore.net.listener import CannotListen, bind_tcp, bind_unix, describe

__all__ = ["CannotListen", "bind_tcp", "bind_unix", "describe"]
