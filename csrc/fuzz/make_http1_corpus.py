"""Writes the seed corpus of fuzz_http1: corpus/http1/<name>, one stream per file.

Run from anywhere: python make_http1_corpus.py. Each file starts with the three bytes that choose
limits (even: the defaults) and piece sizes, see fuzz_http1.c; the stream follows.
"""

from pathlib import Path

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /p HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def line(text: bytes) -> bytes:
    return text + b"\r\nHost: a\r\n\r\n"


def field(text: bytes) -> bytes:
    return GET + text + b"\r\n\r\n"


def length(text: bytes, body: bytes = b"") -> bytes:
    return POST + b"Content-Length:" + text + b"\r\n\r\n" + body


STREAMS = {
    "get": GET + b"\r\n",
    "get_leading_line": b"\r\n" + GET + b"\r\n",
    "get_two_leading_lines": b"\r\n\r\n" + GET + b"\r\n",
    "get_1_0": b"GET /x HTTP/1.0\r\n\r\n",
    "get_1_0_keep_alive": b"GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "get_1_9": line(b"GET / HTTP/1.9"),
    "method_other": line(b"PROPFIND /dav HTTP/1.1"),
    "method_long": line(b"M" * 33 + b" / HTTP/1.1"),
    "options_star": line(b"OPTIONS * HTTP/1.1"),
    "get_star": line(b"GET * HTTP/1.1"),
    "connect": line(b"CONNECT example.org:443 HTTP/1.1"),
    "connect_no_port": line(b"CONNECT example.org HTTP/1.1"),
    "absolute": line(b"GET http://example.org:80/a?b=c HTTP/1.1"),
    "absolute_https_ipv6": line(b"GET HTTPS://[2001:db8::1]:8443/a HTTP/1.1"),
    "absolute_userinfo": line(b"GET http://u@example.org/ HTTP/1.1"),
    "fragment": line(b"GET /a#b HTTP/1.1"),
    "target_utf8": line(b"GET /\xc3\xa9 HTTP/1.1"),
    "no_version": line(b"GET /"),
    "http2_preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version_2": line(b"GET / HTTP/2.0"),
    "version_lower": line(b"GET / http/1.1"),
    "version_long": line(b"GET / HTTP/1.10"),
    "two_spaces": line(b"GET  / HTTP/1.1"),
    "tls_hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "bare_lf": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare_cr_line": b"GET / HTTP/1.1\rHost: a\r\n\r\n",
    "bare_cr_value": field(b"X: a\rb"),
    "nul_value": field(b"X: a\0b"),
    "del_value": field(b"X: a\x7fb"),
    "tab_value": field(b"X:\t a\tb \t"),
    "obs_text": field(b"X: \xff\x80"),
    "empty_value": field(b"X:"),
    "space_before_colon": field(b"X : y"),
    "empty_name": field(b": y"),
    "fold": field(b"X: y\r\n z"),
    "fold_first": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "no_colon": field(b"X"),
    "no_host": b"GET / HTTP/1.1\r\n\r\n",
    "two_hosts": field(b"Host: a"),
    "host_empty": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "host_ipv6": b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    "host_list": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "host_percent": b"GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n",
    "length": length(b" 5", b"hello"),
    "length_zero": length(b" 0"),
    "length_twice": length(b" 5\r\nContent-Length: 5", b"hello"),
    "length_list": length(b" 5, 5", b"hello"),
    "length_sign": length(b" +5", b"hello"),
    "length_hex": length(b" 0x5", b"hello"),
    "length_overflow": length(b" 18446744073709551616"),
    "length_big": length(b" 18446744073709551615"),
    "length_empty": length(b""),
    "chunked": CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    "chunked_trailer": CHUNKED + b"1\r\na\r\n0\r\nX: y\r\nZ:\r\n\r\n",
    "chunked_trailer_fold": CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n",
    "chunked_extension": CHUNKED + b'5;a=b ; c="d\\"e;=" ;f\r\nhello\r\n0;x\r\n\r\n',
    "chunked_extension_open": CHUNKED + b'5;a="b\r\nhello\r\n0\r\n\r\n',
    "chunked_extension_space": CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n",
    "chunked_leading_zeros": CHUNKED + b"0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n",
    "chunked_digits": CHUNKED + b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    "chunked_overflow": CHUNKED + b"1\r\na\r\nffffffffffffffff\r\nb",
    "chunked_sign": CHUNKED + b"-1\r\n",
    "chunked_0x": CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
    "chunked_lf": CHUNKED + b"1\na\n0\n\n",
    "chunked_no_end": CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
    "coding_and_length": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding_1_0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding_gzip_chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "coding_chunked_gzip": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n",
    "coding_twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "coding_parameter": POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n",
    "expect": POST + b"Expect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    "upgrade": GET + b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00",
    "close": GET + b"Connection: , close\r\n\r\n",
    "pipeline": GET + b"\r\n" + length(b" 2", b"hi") + CHUNKED + b"0\r\n\r\n" + GET + b"\r\n",
    "pipeline_then_garbage": GET + b"\r\n" + b"\x00\x01",
}

# Streams that are also run under each of these small limits.
LIMITED = ("get", "length", "chunked", "chunked_trailer", "chunked_extension", "pipeline")
LIMIT_BYTES = (0x01, 0x4F, 0xFF)


def main() -> None:
    folder = Path(__file__).parent / "corpus" / "http1"
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, stream) in enumerate(STREAMS.items()):
        pieces = bytes((number * 7 % 64, number % 9))
        (folder / name).write_bytes(b"\0" + pieces + stream)
        if name in LIMITED:
            for limit in LIMIT_BYTES:
                path = folder / f"{name}_limits_{limit:02x}"
                path.write_bytes(bytes((limit,)) + pieces + stream)


if __name__ == "__main__":
    main()
