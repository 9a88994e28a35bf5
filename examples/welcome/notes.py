"""A JSON API over notes that are kept in memory."""

import itertools

from examples.welcome.stats import Stats
from flowcore.http import App, HTTPError

MAX_NOTES = 100
MAX_TEXT = 500


def text_of(value: object) -> str:
    """The note in a request's JSON; HTTPError(400) says what is wrong with it."""
    text = value.get("text") if isinstance(value, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise HTTPError(400, 'expected {"text": "..."} with some text')
    if len(text) > MAX_TEXT:
        raise HTTPError(400, f"a note has at most {MAX_TEXT} characters")
    return text.strip()


class Notes:
    """Notes by number; a number is not given twice."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._notes: dict[int, dict[str, object]] = {}

    def all(self) -> list[dict[str, object]]:
        return list(self._notes.values())

    def add(self, text: str) -> dict[str, object]:
        if len(self._notes) >= MAX_NOTES:
            raise HTTPError(409, f"there are {MAX_NOTES} notes; delete one first")
        number = next(self._numbers)
        note = self._notes[number] = {"id": number, "text": text}
        return note

    def get(self, number: int) -> dict[str, object]:
        try:
            return self._notes[number]
        except KeyError:
            raise HTTPError(404, f"there is no note {number}") from None

    def delete(self, number: int) -> None:
        self.get(number)
        del self._notes[number]


def add_routes(app: App, stats: Stats) -> None:
    notes = Notes()
    notes.add("Kept in memory: a restart forgets these")

    @app.get("/api/notes")
    @stats.counted
    async def index():
        return notes.all()

    @app.post("/api/notes")
    @stats.counted
    async def add(request):
        note = notes.add(text_of(request.json()))
        return note, 201, {"location": f"/api/notes/{note['id']}"}

    @app.get("/api/notes/{id:int}")
    @stats.counted
    async def read(id):
        return notes.get(id)

    @app.delete("/api/notes/{id:int}")
    @stats.counted
    async def delete(id):
        notes.delete(id)
