"""The smallest application: `flowcore serve examples.hello:app`."""

from flowcore.http import App

app = App()


@app.get("/")
async def hello():
    return "Hello, World!\n"


@app.get("/hello/{name}")
async def hello_name(name):
    return {"hello": name}
