"""flowcore inside an asyncio program that does other things too: `python examples/embed.py [port]`.

One loop runs a task that samples something, asyncio's own TCP server that sends every line back,
and the HTTP server that shows both. Nothing in the first two knows of flowcore. Control-C ends all.
"""

import asyncio
import os
import signal
import sys

import flowcore
from flowcore.http import App, serve


class Sampler:
    """The load average, as of the last half second."""

    def __init__(self) -> None:
        self.load = 0.0
        self.samples = 0

    async def run(self) -> None:
        while True:
            self.load = os.getloadavg()[0]
            self.samples += 1
            await asyncio.sleep(0.5)


class Echo:
    """Sends every line back, over asyncio's streams."""

    def __init__(self) -> None:
        self.lines = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.lines += 1
            writer.write(line)
            await writer.drain()
        writer.close()


def make_app(sampler: Sampler, echo: Echo) -> App:
    app = App()

    @app.get("/")
    async def state():
        return {"load": sampler.load, "samples": sampler.samples, "echoed_lines": echo.lines}

    return app


async def main(port: int) -> None:
    sampler, echo = Sampler(), Echo()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    sampling = asyncio.create_task(sampler.run())
    lines = await asyncio.start_server(echo.connected, "127.0.0.1", 0)
    async with lines, await serve(make_app(sampler, echo), port=port) as http:
        print(f"state on {http.addresses[0]}", flush=True)
        print(f"echo on port {lines.sockets[0].getsockname()[1]}", flush=True)
        await stop.wait()
    sampling.cancel()


if __name__ == "__main__":
    flowcore.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8000))
