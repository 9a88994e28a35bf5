"""Our request parser against httptools: streams both accept, and those where they differ."""

import random
from dataclasses import dataclass, field

import httptools
import pytest

from flowcore.errors import LimitExceeded, ProtocolError
from flowcore.kernel.http1 import RequestParser

SEEDS = range(60)
TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
TARGET = bytes(c for c in range(0x21, 0x7F) if c not in b"#?")
VALUE = bytes(c for c in range(0x20, 0x100) if c != 0x7F) + b"\t"
# httptools knows methods by name; ours takes any token.
METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH"]
METHODS += [b"PROPFIND", b"MKCOL", b"REPORT", b"M-SEARCH"]
OWN_NAMES = {
    b"host", b"connection", b"content-length", b"transfer-encoding", b"expect", b"upgrade",
    b"keep-alive", b"proxy-connection",
}  # fmt: skip


@dataclass
class Seen:
    """What one parser says about one request."""

    method: bytes = b""
    target: bytes = b""
    minor: int = 1
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    keep_alive: bool = True


class Oracle:
    """httptools' events, gathered into requests.

    Two differences are levelled here: trailers, which ours drops, and white space behind a value,
    which httptools keeps though it is no part of it (RFC 9110, 5.5).
    """

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self.in_head = True
        self.open = Seen()
        self.parser = httptools.HttpRequestParser(self)

    def on_message_begin(self) -> None:
        self.open = Seen()
        self.in_head = True

    def on_url(self, url: bytes) -> None:
        self.open.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.in_head:
            self.open.headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.in_head = False
        self.open.method = self.parser.get_method()
        self.open.minor = int(self.parser.get_http_version()[-1])
        self.open.keep_alive = self.parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self.open.body += body

    def on_message_complete(self) -> None:
        self.requests.append(self.open)


def theirs(pieces: list[bytes]) -> list[Seen]:
    oracle = Oracle()
    for piece in pieces:
        oracle.parser.feed_data(piece)
    return oracle.requests


def ours(pieces: list[bytes]) -> list[Seen]:
    parser = RequestParser(max_headers=200)
    found = [request for piece in pieces for request in parser.feed(piece)]
    assert parser.feed(b"") == []  # raises what was put off
    return [Seen(r.method, r.target, r.minor, r.headers, r.body, r.keep_alive) for r in found]


# --- streams both accept


def some(rng: random.Random, alphabet: bytes, least: int, most: int) -> bytes:
    return bytes(rng.choices(alphabet, k=rng.randint(least, most)))


def make_target(rng: random.Random) -> bytes:
    target = b"/" + some(rng, TARGET, 0, 60)
    if rng.random() < 0.3:
        target += b"?" + some(rng, TARGET + b"?", 0, 60)
    if rng.random() < 0.1:
        target = rng.choice([b"http://example.org:80", b"https://[::1]", b"HTTP://a"]) + target
    return target


def make_value(rng: random.Random) -> bytes:
    value = some(rng, VALUE, 0, 50)
    lead, trail = rng.choices([b"", b" ", b"\t", b" \t "], k=2)
    return lead + value.strip(b" \t") + trail


def make_headers(rng: random.Random) -> list[bytes]:
    lines = []
    for _ in range(rng.choice([0, 1, 3, 12, 60])):
        name = some(rng, TOKEN, 1, 20)
        if name.lower() not in OWN_NAMES:
            lines.append(name + b":" + make_value(rng))
    return lines


def chunked(rng: random.Random, body: bytes) -> bytes:
    out = b""
    while body:
        size = rng.randint(1, len(body))
        extension = rng.choice([b"", b"", b";a", b";a=b", b';a="b c";d=e'])
        number = rng.choice([b"%x", b"%X", b"%08x"]) % size
        out += number + extension + b"\r\n" + body[:size] + b"\r\n"
        body = body[size:]
    return out + b"0\r\n" + rng.choice([b"", b"X-Sum: 1\r\n", b"A: b\r\nC:\r\n"]) + b"\r\n"


def make_request(rng: random.Random, last: bool) -> bytes:
    minor = rng.choice([1, 1, 1, 0])
    lines = make_headers(rng)
    lines.append(rng.choice([b"Host: example.org", b"HOST:a:80", b"host: [::1]:8080"]))
    if minor == 0 and not last:
        lines.append(b"Connection: keep-alive")
    elif last and rng.random() < 0.5:
        lines.append(rng.choice([b"Connection: close", b"connection: x, CLOSE"]))
    body = rng.randbytes(rng.choice([0, 1, 100, 3000]))
    kind = rng.choice(["none", "length", "chunked"] if minor else ["none", "length"])
    if kind == "length":
        lines.append(b"Content-Length: %d" % len(body))
    elif kind == "chunked":
        lines.append(rng.choice([b"Transfer-Encoding: chunked", b"transfer-encoding:Chunked"]))
        body = chunked(rng, body)
    else:
        body = b""
    rng.shuffle(lines)
    first = b"%s %s HTTP/1.%d" % (rng.choice(METHODS), make_target(rng), minor)
    lead = rng.choice([b"", b"", b"\r\n"])
    return lead + b"\r\n".join([first, *lines, b"", b""]) + body


def make_stream(rng: random.Random) -> tuple[bytes, int]:
    count = rng.choice([1, 1, 2, 8])
    return b"".join(make_request(rng, i == count - 1) for i in range(count)), count


def cut(rng: random.Random, stream: bytes, pieces: int) -> list[bytes]:
    marks = sorted(rng.choices(range(len(stream) + 1), k=pieces - 1))
    return [stream[a:b] for a, b in zip([0, *marks], [*marks, len(stream)], strict=True)]


@pytest.mark.parametrize("seed", SEEDS)
def test_same_requests_whole_and_split(seed: int) -> None:
    rng = random.Random(seed)
    stream, count = make_stream(rng)
    expected = theirs([stream])
    assert len(expected) == count
    assert ours([stream]) == expected
    assert ours([stream[i : i + 1] for i in range(len(stream))]) == expected
    for pieces in (2, 3, 10):
        parts = cut(rng, stream, pieces)
        assert ours(parts) == expected
        assert theirs(parts) == expected


# --- streams where we differ, on purpose

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def line(text: bytes) -> bytes:
    return text + b"\r\nHost: a\r\n\r\n"


# What is done with the stream: "accepts" n requests of it, or rejects it (ours: with that code).
# name: (stream, ours, theirs)
DELIBERATE_DIFFERENCES: dict[str, tuple[bytes, str, str]] = {
    # Stricter than httptools.
    "two empty lines first": (b"\r\n\r\n" + GET + b"\r\n", "HTTP_METHOD", "accepts 1"),
    "two spaces before the target": (line(b"GET  / HTTP/1.1"), "HTTP_TARGET", "accepts 1"),
    "* for GET": (line(b"GET * HTTP/1.1"), "HTTP_TARGET", "accepts 1"),
    "user information": (line(b"GET http://u@a/ HTTP/1.1"), "HTTP_TARGET", "accepts 1"),
    "a fragment": (line(b"GET /a#b HTTP/1.1"), "HTTP_TARGET", "accepts 1"),
    "HTTP/0.9": (line(b"GET /"), "HTTP_VERSION", "accepts 1"),
    "HTTP/2.0 in text": (line(b"GET / HTTP/2.0"), "HTTP_VERSION_UNKNOWN", "accepts 1"),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", "HTTP_HOST", "accepts 1"),
    "two Hosts": (GET + b"Host: a\r\n\r\n", "HTTP_HOST", "accepts 1"),
    "Host list": (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "HTTP_HOST", "accepts 1"),
    "Host with path": (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "HTTP_HOST", "accepts 1"),
    "coding on 1.0": (
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP_FRAMING",
        "accepts 1",
    ),
    "a coding nobody implements": (
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP_CODING_UNKNOWN",
        "accepts 1",
    ),
    "chunk size of 17 digits": (
        CHUNKED + b"00000000000000001\r\na\r\n0\r\n\r\n",
        "HTTP_CHUNK",
        "accepts 1",
    ),
    # Limits, of which httptools has none.
    "request line": (line(b"GET /" + b"a" * 8192 + b" HTTP/1.1"), "HTTP_LINE_LIMIT", "accepts 1"),
    "header bytes": (
        GET + b"X: " + b"a" * 32768 + b"\r\n\r\n",
        "HTTP_HEADER_LIMIT",
        "accepts 1",
    ),
    "header count": (GET + b"X: y\r\n" * 100 + b"\r\n", "HTTP_COUNT_LIMIT", "accepts 1"),
    "body": (POST + b"Content-Length: 16777217\r\n\r\n", "HTTP_BODY_LIMIT", "accepts 0"),
    "chunk": (CHUNKED + b"1000001\r\n", "HTTP_BODY_LIMIT", "accepts 0"),
    "chunk extensions": (
        CHUNKED + b"1;" + b"a" * 4096 + b"\r\na\r\n0\r\n\r\n",
        "HTTP_CHUNK_LIMIT",
        "accepts 1",
    ),
    # Allowed by the RFCs, rejected by httptools.
    "any method": (line(b"FLY / HTTP/1.1"), "accepts 1", "rejects"),
    "any minor version": (line(b"GET / HTTP/1.9"), "accepts 1", "rejects"),
    "quoted pair in a chunk extension": (
        CHUNKED + b'1;a="\\"" ; b\r\na\r\n0\r\n\r\n',
        "accepts 1",
        "rejects",
    ),
    # Kept as most servers do: raw UTF-8 in a target, which no RFC allows.
    "not ASCII in the target": (line(b"GET /\xc3\xa9 HTTP/1.1"), "accepts 1", "rejects"),
    # What follows a close belongs to the connection's owner, not to the parser.
    "data after close": (
        GET + b"Connection: close\r\n\r\n" + GET + b"\r\n",
        "accepts 2",
        "rejects",
    ),
}


def test_white_space_behind_a_value_is_no_part_of_it() -> None:
    kept: list[bytes] = []

    class Events:
        def on_header(self, name: bytes, value: bytes) -> None:
            kept.append(value)

    stream = b"GET / HTTP/1.1\r\nHost: a \t\r\n\r\n"
    httptools.HttpRequestParser(Events()).feed_data(stream)
    assert kept == [b"a \t"]
    assert ours([stream])[0].headers == [(b"Host", b"a")]


def our_verdict(stream: bytes) -> str:
    parser = RequestParser()
    try:
        count = len(parser.feed(stream))
        parser.feed(b"")
    except (ProtocolError, LimitExceeded) as error:
        assert error.code is not None
        return error.code
    return f"accepts {count}"


def their_verdict(stream: bytes) -> str:
    oracle = Oracle()
    try:
        oracle.parser.feed_data(stream)
    except httptools.HttpParserError:
        return "rejects"
    return f"accepts {len(oracle.requests)}"


@pytest.mark.parametrize("name", DELIBERATE_DIFFERENCES)
def test_deliberate_difference(name: str) -> None:
    stream, we, they = DELIBERATE_DIFFERENCES[name]
    assert (our_verdict(stream), their_verdict(stream)) == (we, they)
