"""More peers than there is room for: the accept queue, descriptors, max_connections, floods."""

import threading
import time

from harness.peers import REQUEST, Bystander, Peer
from harness.served import Sut, until


def test_full_accept_queue_is_served_when_the_server_is_free() -> None:
    """SYNs that find the queue full are sent again by the peers' kernel, a second later or more."""
    with Sut(backlog=1) as server, server.unharmed():
        texts: list[str] = []

        def ask() -> None:
            with Peer(server.port, timeout_s=20) as peer:
                peer.get("/", close=True)
                texts.append(peer.reply().text)

        with server.peer() as blocker:
            blocker.get("/block/0.7")
            time.sleep(0.1)
            threads = [threading.Thread(target=ask) for _ in range(10)]
            for thread in threads:
                thread.start()
            assert blocker.reply().text == "blocked"
            for thread in threads:
                thread.join(25)
        assert texts == ["hello"] * 10


def test_without_descriptors_accepting_pauses_and_resumes() -> None:
    limit = 48
    with Sut(open_files=limit) as server:
        free = limit - server.descriptors()
        with Bystander(server.port):
            peers = [server.peer(timeout_s=5) for _ in range(free + 20)]
            for peer in peers:
                peer.send(REQUEST)
            until(lambda: "cannot accept connections" in server.log, 3, "a line in the log")
        # The bystander has left its place to one of the queue.
        until(lambda: server.descriptors() == limit, 3, "every descriptor is in use")
        spent_s = server.cpu_s()
        time.sleep(1)
        assert server.cpu_s() - spent_s < 0.1, "the loop spins on the listening socket"
        first, rest = peers[: free // 2], peers[free // 2 :]
        for peer in first:
            assert peer.reply().text == "hello"
            peer.close()
        for peer in rest[: len(rest) // 2] + rest[len(rest) // 2 :]:
            assert peer.heard(5)
            assert peer.reply().text == "hello"
            peer.close()
        assert server.log.count("cannot accept connections") == 1
        with server.unharmed():
            assert server.get("/") == "hello"


def test_max_connections_is_kept_and_the_next_waits() -> None:
    with Sut(max_connections=5) as server:
        inside = [server.peer() for _ in range(5)]
        for peer in inside:
            peer.send(REQUEST)
            assert peer.reply().text == "hello"
        spent_s = server.cpu_s()
        waiting = [server.peer() for _ in range(3)]
        for peer in waiting:
            peer.send(REQUEST)
        assert not waiting[0].heard(0.5)
        assert server.cpu_s() - spent_s < 0.1, "the loop spins on the listening socket"
        for gone, next_one in zip(inside, waiting, strict=False):
            gone.close()
            assert next_one.reply().text == "hello"
        inside[3].send(REQUEST)
        assert inside[3].reply().text == "hello"
        for peer in [*inside, *waiting]:
            peer.close()
        with server.unharmed():
            assert server.get("/") == "hello"


def test_thousands_connect_and_leave() -> None:
    with Sut() as server, server.unharmed(), Bystander(server.port):
        for n in range(5000):
            peer = server.peer()
            if n % 3 == 0:
                peer.send(REQUEST)
            if n % 2:
                peer.reset()
            else:
                peer.close()
