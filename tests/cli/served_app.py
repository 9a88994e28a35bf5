"""What the command serves in these tests; copied to where the command is run."""

import asyncio
import os
from pathlib import Path

from flowcore.http import App

app = App()
not_an_app = 42


def make_app() -> App:
    return app


def note(text: str) -> None:
    with Path("notes.txt").open("a") as notes:
        notes.write(f"{text} {os.getpid()}\n")


@app.on_startup
async def up() -> None:
    note("up")
    if Path("crash-at-start").exists():
        os._exit(7)


@app.on_shutdown
def down() -> None:
    note("down")


@app.get("/")
async def hello() -> str:
    return "hello"


@app.get("/pid")
async def pid() -> str:
    return str(os.getpid())


@app.get("/slow/{seconds:float}")
async def slow(seconds: float) -> str:
    note("slow")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note("cancelled")
        raise
    return "slow"
