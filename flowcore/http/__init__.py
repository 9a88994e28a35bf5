"""HTTP/1.1: an application's routes and handlers, served on flowcore's reactor."""

from flowcore.http.app import App
from flowcore.http.config import ServerConfig
from flowcore.http.errors import HTTPError
from flowcore.http.multimap import MultiMapping
from flowcore.http.request import Headers, Request
from flowcore.http.response import Response
from flowcore.http.serve import Server, serve

__all__ = [
    "App",
    "HTTPError",
    "Headers",
    "MultiMapping",
    "Request",
    "Response",
    "Server",
    "ServerConfig",
    "serve",
]
