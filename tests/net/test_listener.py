"""bind_tcp, bind_unix, describe: addresses taken, freed, refused, named."""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from flowcore.errors import InvalidArgument
from flowcore.net import CannotListen, bind_tcp, bind_unix, describe


@pytest.fixture
def keep() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


def connects(family: int, address: object) -> bool:
    with socket.socket(family) as sock:
        return sock.connect_ex(address) == 0  # type: ignore[arg-type]


def test_listens_without_blocking_or_nagle(keep: ExitStack) -> None:
    (sock,) = (keep.enter_context(s) for s in bind_tcp("127.0.0.1", 0))
    host, port = sock.getsockname()
    assert (host, sock.getblocking(), sock.get_inheritable()) == ("127.0.0.1", False, False)
    assert port > 0
    with pytest.raises(BlockingIOError):
        sock.accept()
    with socket.create_connection((host, port)):
        accepted, _ = sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_backlog_bounds_the_queue(keep: ExitStack) -> None:
    (sock,) = (keep.enter_context(s) for s in bind_tcp("127.0.0.1", 0, backlog=2))
    refused = 0
    for _ in range(6):
        peer = keep.enter_context(socket.socket())
        peer.settimeout(0.1)
        refused += peer.connect_ex(sock.getsockname()) != 0
    assert refused == 3  # Linux holds one more than the backlog


@needs_ipv6
def test_ipv6_literal(keep: ExitStack) -> None:
    (sock,) = (keep.enter_context(s) for s in bind_tcp("::1", 0))
    assert connects(socket.AF_INET6, sock.getsockname())
    assert describe(sock) == f"http://[::1]:{sock.getsockname()[1]}"


@needs_ipv6
@pytest.mark.parametrize("host", [None, ""])
def test_all_addresses_share_one_port(keep: ExitStack, host: str | None) -> None:
    socks = [keep.enter_context(s) for s in bind_tcp(host, 0)]
    assert {s.family for s in socks} == {socket.AF_INET, socket.AF_INET6}
    (port,) = {s.getsockname()[1] for s in socks}
    assert connects(socket.AF_INET, ("127.0.0.1", port))
    assert connects(socket.AF_INET6, ("::1", port))


def test_a_name_is_resolved(keep: ExitStack) -> None:
    socks = [keep.enter_context(s) for s in bind_tcp("localhost", 0)]
    assert any(connects(s.family, s.getsockname()) for s in socks)


def test_taken_address_is_named(keep: ExitStack) -> None:
    (sock,) = (keep.enter_context(s) for s in bind_tcp("127.0.0.1", 0))
    port = sock.getsockname()[1]
    with pytest.raises(CannotListen, match=f"cannot listen on 127.0.0.1 port {port}: Address"):
        bind_tcp("127.0.0.1", port)


def test_foreign_address_is_named() -> None:
    with pytest.raises(OSError, match="cannot listen on 192.0.2.1 port 0: Cannot assign"):
        bind_tcp("192.0.2.1", 0)


def test_unknown_name_is_named() -> None:
    with pytest.raises(OSError, match="cannot listen on no-such-host.invalid port 80: "):
        bind_tcp("no-such-host.invalid", 80)


@pytest.mark.parametrize("port", [-1, 65536])
def test_port_out_of_range(port: int) -> None:
    with pytest.raises(InvalidArgument, match=f"from 0 to 65535, not {port}"):
        bind_tcp("127.0.0.1", port)


def test_failure_leaves_no_descriptor(keep: ExitStack) -> None:
    (sock,) = (keep.enter_context(s) for s in bind_tcp("127.0.0.1", 0))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(OSError):
            bind_tcp(None, sock.getsockname()[1])
    assert len(os.listdir("/proc/self/fd")) == before


def test_reuse_port_shares_and_without_it_does_not(keep: ExitStack) -> None:
    (one,) = (keep.enter_context(s) for s in bind_tcp("127.0.0.1", 0, reuse_port=True))
    port = one.getsockname()[1]
    (two,) = (keep.enter_context(s) for s in bind_tcp("127.0.0.1", port, reuse_port=True))
    assert two.getsockname() == one.getsockname()
    with pytest.raises(CannotListen):
        bind_tcp("127.0.0.1", port)


def test_bound_only_refuses_connections_and_keeps_the_port(keep: ExitStack) -> None:
    (sock,) = (keep.enter_context(s) for s in bind_tcp("127.0.0.1", 0, listen=False))
    assert not connects(socket.AF_INET, sock.getsockname())
    with pytest.raises(OSError), socket.socket() as other:
        other.bind(sock.getsockname())


def test_address_is_free_again_after_connections(keep: ExitStack) -> None:
    """In spite of the kernel's TIME_WAIT."""
    (sock,) = bind_tcp("127.0.0.1", 0)
    address = sock.getsockname()
    with socket.create_connection(address) as peer:
        accepted, _ = sock.accept()
        accepted.close()
        assert peer.recv(1) == b""
    sock.close()
    (again,) = (keep.enter_context(s) for s in bind_tcp(*address))
    assert connects(socket.AF_INET, again.getsockname())


def test_unix_socket(keep: ExitStack, tmp_path: Path) -> None:
    path = tmp_path / "s"
    sock = keep.enter_context(bind_unix(path))
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert not sock.getblocking()
    assert connects(socket.AF_UNIX, str(path))
    assert describe(sock) == f"unix:{path}"


def test_unix_socket_left_behind_is_replaced(keep: ExitStack, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    assert path.exists()
    keep.enter_context(bind_unix(path))
    assert connects(socket.AF_UNIX, str(path))


def test_unix_socket_in_use_is_refused_and_stays(keep: ExitStack, tmp_path: Path) -> None:
    path = tmp_path / "s"
    keep.enter_context(bind_unix(path, backlog=0))
    # With a full queue too: it is alive, and nobody waits for it.
    for _ in range(3):
        with pytest.raises(CannotListen, match=f"cannot listen on {path}: Address already in use"):
            bind_unix(path)
        peer = keep.enter_context(socket.socket(socket.AF_UNIX))
        peer.setblocking(False)
        peer.connect_ex(str(path))
    assert path.exists()


@pytest.mark.parametrize("what", ["file", "directory"])
def test_unix_path_of_something_else_is_refused_and_stays(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "file":
        path.write_text("precious")
    else:
        path.mkdir()
    with pytest.raises(CannotListen, match=f"cannot listen on {path}: "):
        bind_unix(path)
    assert path.exists()


def test_unix_path_without_directory_or_too_long(tmp_path: Path) -> None:
    with pytest.raises(CannotListen, match="No such file"):
        bind_unix(tmp_path / "none" / "s")
    with pytest.raises(CannotListen, match="too long"):
        bind_unix(tmp_path / ("s" * 200))


def test_describe_takes_a_scheme(keep: ExitStack) -> None:
    (sock,) = (keep.enter_context(s) for s in bind_tcp("127.0.0.1", 0))
    assert describe(sock, "https") == f"https://127.0.0.1:{sock.getsockname()[1]}"


def test_unix_socket_takes_its_file_along(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = bind_unix(path)
    path.unlink()
    second = bind_unix(path)
    first.close()
    assert path.exists(), "the file was another's by then"
    second.close()
    second.close()
    assert not path.exists()
