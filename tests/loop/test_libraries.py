"""Well-known asyncio libraries, unchanged, on this loop."""

import asyncio

import pytest

import flowcore


def test_aiohttp_client_and_server():
    web = pytest.importorskip("aiohttp.web")
    aiohttp = pytest.importorskip("aiohttp")

    async def hello(request):
        return web.json_response({"got": await request.text(), "path": request.path})

    async def socket(request):
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str(message.data[::-1])
        return ws

    async def main():
        app = web.Application()
        app.add_routes([web.post("/{any}", hello), web.get("/ws", socket)])
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        async with aiohttp.ClientSession() as session:

            async def post(i):
                async with session.post(f"{url}/{i}", data="x" * i) as response:
                    return await response.json()

            replies = await asyncio.gather(*map(post, range(1, 100)))
            assert replies == [{"got": "x" * i, "path": f"/{i}"} for i in range(1, 100)]
            async with session.ws_connect(f"{url}/ws") as ws:
                await ws.send_str("abc")
                assert (await ws.receive()).data == "cba"
        await runner.cleanup()

    flowcore.run(main())


def test_httpx_and_anyio():
    httpx = pytest.importorskip("httpx")
    anyio = pytest.importorskip("anyio")

    async def serve(stream):
        async with stream:
            data = b""
            while b"\r\n\r\n" not in data:
                data += await stream.receive()
            await stream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")

    async def main():
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            async with httpx.AsyncClient(trust_env=False) as client:
                replies = await asyncio.gather(
                    *(client.get(f"http://127.0.0.1:{port}/") for _ in range(20))
                )
                assert {reply.text for reply in replies} == {"hello"}
            back_and_forth = anyio.to_thread.run_sync(anyio.from_thread.run, anyio.sleep, 0)
            assert await back_and_forth is None
            with pytest.raises(TimeoutError), anyio.fail_after(0.01):
                await anyio.sleep(5)
            group.cancel_scope.cancel()

    flowcore.run(main())


def test_anyio_runs_on_this_loop():
    anyio = pytest.importorskip("anyio")

    async def main():
        return type(asyncio.get_running_loop())

    options = {"loop_factory": flowcore.new_event_loop}
    assert anyio.run(main, backend_options=options) is flowcore.EventLoop
