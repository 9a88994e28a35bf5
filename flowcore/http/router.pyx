"""Paths to handlers: the core finds the route, this holds what is done there."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.object cimport PyObject

from flowcore.http.request cimport Request
from flowcore.kernel.errors cimport error_of
from flowcore.kernel.fc_err cimport FC_EINVALID, FC_ELIMIT
from flowcore.kernel.fc_http1 cimport (
    FC_HTTP1_GET,
    FC_HTTP1_HEAD,
    FC_HTTP1_METHOD_COUNT,
    fc_http1_method,
    fc_http1_method_name,
)
from flowcore.kernel.fc_reactor cimport fc_mem_libc
from flowcore.kernel.fc_router cimport (
    fc_match,
    fc_router_add,
    fc_router_free,
    fc_router_match,
    fc_router_new,
)
from flowcore.kernel.fc_slice cimport fc_slice, fc_slice_of

import inspect
import math
import re
import uuid

from flowcore.errors import InvalidArgument
from flowcore.http.errors import HTTPError

cdef object PARAMETER = re.compile(r"\{(\w+)(?::(\w+))?\}")


cdef str method_name(fc_http1_method method):
    cdef fc_slice name = fc_http1_method_name(method)
    return name.ptr[: name.len].decode()


cdef list METHOD_NAMES = [method_name(<fc_http1_method>i) for i in range(FC_HTTP1_METHOD_COUNT)]


cdef object convert_one(str kind, fc_slice value):
    """A path parameter's text as its kind's type; HTTPError(404) for what the type cannot hold."""
    cdef bytes raw = value.ptr[: value.len]
    try:
        if kind == "int":
            return int(raw)
        if kind == "float":
            value_as_float = float(raw)
            if math.isinf(value_as_float):
                raise ValueError
            return value_as_float
        if kind == "uuid":
            return uuid.UUID(raw.decode())
        return raw.decode("utf-8")
    except ValueError:
        raise HTTPError(404) from None


@cython.final
cdef class Endpoint:
    def __init__(self, handler, str pattern):
        """Reads the handler's signature: a parameter named like one of the path's receives it, and
        one more, of any name, the request."""
        found = PARAMETER.findall(pattern)
        self.handler = handler
        self.names = tuple([name for name, _ in found])
        self.kinds = tuple([kind or "str" for _, kind in found])
        # Of the handler itself: what wraps a coroutine function may answer without calling it.
        self.is_async = inspect.iscoroutinefunction(handler)
        self.make_plan(pattern)
        self.takes_request_only = self.plan == (-1,) and not self.keywords

    def make_plan(self, pattern):
        positional, keywords, request_given = [], [], False
        for parameter in inspect.signature(self.handler).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                continue
            if parameter.name in self.names:
                source = self.names.index(parameter.name)
            elif not request_given and parameter.default is parameter.empty:
                source, request_given = -1, True
            elif parameter.default is not parameter.empty:
                continue
            else:
                raise InvalidArgument(
                    f"route {pattern!r}: nothing to pass for parameter {parameter.name!r} of"
                    f" {self.handler!r}; the path has {list(self.names) or 'no parameters'}"
                )
            if parameter.kind is parameter.KEYWORD_ONLY or keywords:
                keywords.append((parameter.name, source))
            elif len(positional) == parameter_index(self.handler, parameter):
                positional.append(source)
            else:
                keywords.append((parameter.name, source))
        self.plan = tuple(positional)
        self.keywords = tuple(keywords)

    cdef tuple convert(self, fc_match *match):
        cdef unsigned int i
        values = []
        for i in range(match.param_count):
            values.append(convert_one(self.kinds[i], match.params[i]))
        return tuple(values)

    cdef object call(self, Request request, fc_match *match):
        """Calls the handler with what its signature asks for."""
        if self.takes_request_only and not self.names:
            return self.handler(request)
        cdef tuple values = self.convert(match)
        if self.names:
            request.params = dict(zip(self.names, values))
        args = [request if source < 0 else values[source] for source in self.plan]
        if not self.keywords:
            return self.handler(*args)
        named = {name: request if source < 0 else values[source] for name, source in self.keywords}
        return self.handler(*args, **named)


cdef int parameter_index(object handler, object parameter) except -1:
    return list(inspect.signature(handler).parameters).index(parameter.name)


@cython.final
cdef class Route:
    def __init__(self, str pattern):
        self.pattern = pattern
        self.by_method = [None] * FC_HTTP1_METHOD_COUNT

    def methods(self):
        """The methods answered here, HEAD and OPTIONS included."""
        names = {METHOD_NAMES[i] for i in range(FC_HTTP1_METHOD_COUNT) if self.by_method[i]}
        if "GET" in names:
            names.add("HEAD")
        return sorted(names | {"OPTIONS"})


@cython.final
cdef class Router:
    """The routes of one application."""

    def __cinit__(self):
        self.core = fc_router_new(&fc_mem_libc)
        if self.core is NULL:
            raise MemoryError()
        self.routes = []

    def __dealloc__(self):
        if self.core is not NULL:
            fc_router_free(self.core)

    def add(self, str method, str pattern, handler):
        """Adds a handler for a method at a path.

        Raises:
            InvalidArgument: the pattern is malformed, the method unknown, the place taken, or the
                handler's signature does not fit.
        """
        if method not in METHOD_NAMES:
            raise InvalidArgument(f"unknown method {method!r}: one of {', '.join(METHOD_NAMES)}")
        cdef Endpoint endpoint = Endpoint(handler, pattern)
        cdef bytes raw = pattern.encode("utf-8")
        cdef size_t where = 0
        cdef int number = fc_router_add(
            self.core, fc_slice_of(PyBytes_AS_STRING(raw), len(raw)), &where
        )
        if number == FC_EINVALID or number == FC_ELIMIT:
            problem = "is malformed" if number == FC_EINVALID else "passes a limit"
            raise InvalidArgument(f"route {pattern!r} {problem} at byte {where}: {raw[where:]!r}")
        if number < 0:
            raise error_of(number)
        if number == len(self.routes):
            self.routes.append(Route(pattern))
        cdef Route route = self.routes[number]
        index = METHOD_NAMES.index(method)
        if route.by_method[index] is not None:
            raise InvalidArgument(f"{method} {pattern} is taken by {route.pattern!r}")
        route.by_method[index] = endpoint
        route.allow = ", ".join(route.methods())

    def table(self):
        """``(method, pattern, handler)`` of every route, in the order of their patterns' adding."""
        return [
            (METHOD_NAMES[i], (<Route>route).pattern, (<Endpoint>endpoint).handler)
            for route in self.routes
            for i, endpoint in enumerate((<Route>route).by_method)
            if endpoint is not None
        ]

    cdef Route find(self, fc_slice path, fc_match *match):
        if not fc_router_match(self.core, path, match):
            return None
        return <Route>self.routes[match.route]
