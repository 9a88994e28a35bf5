"""RequestParser as Python sees it: attributes, order of errors, limits. The grammar: csrc/tests."""

import pytest

from flowcore.errors import LimitExceeded, ProtocolError
from flowcore.kernel.http1 import ParsedRequest, RequestParser

GET = b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n"


def test_attributes() -> None:
    (request,) = RequestParser().feed(
        b"PUT /x HTTP/1.1\r\nhost:a\r\nX-Y: \tz \r\nExpect: 100-continue\r\n"
        b"Connection: close, upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc"
    )
    assert (request.method, request.target, request.minor) == (b"PUT", b"/x", 1)
    assert request.headers[:2] == [(b"host", b"a"), (b"X-Y", b"z")]
    assert len(request.headers) == 6
    assert request.body == b"abc"
    assert (request.keep_alive, request.expect_continue, request.upgrade) == (False, True, True)
    assert repr(request) == "<ParsedRequest b'PUT' b'/x', body of 3 bytes>"


def test_partial_input_is_kept() -> None:
    parser = RequestParser()
    assert parser.feed(GET[:7]) == []
    assert parser.feed(bytearray(GET[7:-1])) == []
    (first, second) = parser.feed(memoryview(GET[-1:] + GET + b"GET"))
    assert first.target == second.target == b"/a?b"
    assert [r.target for r in parser.feed(GET[3:])] == [b"/a?b"]


def test_requests_before_an_error_come_first_and_the_error_stays() -> None:
    parser = RequestParser()
    assert len(parser.feed(GET + GET + b"\0")) == 2
    for data in (b"", GET):
        with pytest.raises(ProtocolError) as caught:
            parser.feed(data)
        assert (caught.value.status, caught.value.code) == (400, "HTTP_METHOD")


@pytest.mark.parametrize(
    ("limits", "stream", "status", "code"),
    [
        ({"max_request_line_bytes": 16}, GET, 414, "HTTP_LINE_LIMIT"),
        ({"max_header_bytes": 8}, GET, 431, "HTTP_HEADER_LIMIT"),
        ({"max_headers": 0}, GET, 431, "HTTP_COUNT_LIMIT"),
        (
            {"max_body_bytes": 2},
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n",
            413,
            "HTTP_BODY_LIMIT",
        ),
        (
            {"max_chunk_extension_bytes": 1},
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;a\r\n\r\n",
            400,
            "HTTP_CHUNK_LIMIT",
        ),
    ],
)
def test_limits(limits: dict[str, int], stream: bytes, status: int, code: str) -> None:
    with pytest.raises(LimitExceeded) as caught:
        RequestParser(**limits).feed(stream)
    assert (caught.value.status, caught.value.code) == (status, code)
    passed = {name: value + 1 for name, value in limits.items()}
    assert len(RequestParser(**passed).feed(stream + b"abc")) == 1


def test_limits_out_of_range() -> None:
    with pytest.raises(OverflowError):
        RequestParser(max_headers=-1)
    with pytest.raises(OverflowError):
        RequestParser(max_header_bytes=2**32)


def test_requests_are_made_by_the_parser_alone() -> None:
    with pytest.raises(TypeError):
        ParsedRequest()


def test_many_small_pieces_cost_no_more_than_their_bytes() -> None:
    """A head of 4 MB in 64 Ki pieces: quadratic scanning would take minutes."""
    parser = RequestParser(max_header_bytes=1 << 23)
    stream = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (1 << 22) + b"\r\n\r\n"
    found = [r for i in range(0, len(stream), 64) for r in parser.feed(stream[i : i + 64])]
    assert len(found) == 1
    assert len(found[0].headers[1][1]) == 1 << 22
