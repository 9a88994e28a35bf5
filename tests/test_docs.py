"""What the documents say is tried: their snippets run, their paths, names and defaults are true.

The words behind a fence's language say what is done with it:

    ```python run        a program; it must succeed, and print the next block, if that is ...
    ```text output       ... this
    ```python serve      a module with `app`, which is served ...
    ```console serve     ... to these curl commands, each followed by what it prints
    ```sh curl           the lines of examples/welcome/curl.txt

Other Python must at least compile.
"""

import ast
import dataclasses
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.served import Process, environment

from flowcore.http import ServerConfig

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")] if path.is_file()
)
FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = {"python run", "text output", "python serve", "console serve", "sh curl"}
CURL = shutil.which("curl")


@dataclass
class Snippet:
    """A fenced block: what it is, what is in it, where it stands."""

    kind: str
    text: str
    place: str
    following: "Snippet | None" = None

    @property
    def language(self) -> str:
        return self.kind.split(" ")[0]


def snippets_of(name: str, page: str) -> list[Snippet]:
    found = [
        Snippet(match[1].strip(), match[2], f"{name}:{page.count(chr(10), 0, match.start()) + 1}")
        for match in FENCE.finditer(page)
    ]
    for snippet, following in zip(found, found[1:], strict=False):
        snippet.following = following
    return found


SNIPPETS = [
    snippet
    for path in PAGES
    for snippet in snippets_of(path.relative_to(ROOT).as_posix(), path.read_text())
]


def of_kind(kind: str) -> list[object]:
    return [pytest.param(each, id=each.place) for each in SNIPPETS if each.kind == kind]


def commands_of(console: str) -> list[tuple[str, str]]:
    """(command, what it prints) of each `$` line."""
    parts = re.split(r"^\$ ", console, flags=re.MULTILINE)
    assert not parts[0].strip(), "output without a command"
    pairs = (each.partition("\n") for each in parts[1:])
    return [(command, output) for command, _, output in pairs]


def prose_of(page: str) -> str:
    return FENCE.sub("", page)


# ---- snippets ------------------------------------------------------------------------------------


def test_the_pages_have_snippets_of_each_kind() -> None:
    assert {each.kind for each in SNIPPETS} >= KINDS


def test_no_snippet_is_marked_in_vain() -> None:
    marked = [each for each in SNIPPETS if " " in each.kind]
    assert not [each.place for each in marked if each.kind not in KINDS]
    after = {"text output": "python run", "console serve": "python serve"}
    follows = {id(each.following): each.kind for each in SNIPPETS if each.following}
    for each in marked:
        if each.kind in after:
            assert follows.get(id(each)) == after[each.kind], each.place


@pytest.mark.parametrize("snippet", of_kind("python run"))
def test_programs_run(snippet: Snippet, tmp_path: Path) -> None:
    program = tmp_path / "snippet.py"
    program.write_text(snippet.text)
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, f"{snippet.place}\n{done.stderr}"
    if snippet.following and snippet.following.kind == "text output":
        assert done.stdout == snippet.following.text, snippet.place


@pytest.mark.skipif(not CURL, reason="needs curl")
@pytest.mark.parametrize("snippet", of_kind("python serve"))
def test_applications_answer(snippet: Snippet, tmp_path: Path) -> None:
    console = snippet.following
    assert console and console.kind == "console serve", f"{snippet.place}: nothing is asked of it"
    (tmp_path / "snippet.py").write_text(snippet.text)
    command = [sys.executable, "-m", "flowcore", "serve", "snippet:app", "--port", "0"]
    with Process(command, cwd=tmp_path) as process:
        for line, expected in commands_of(console.text):
            assert "localhost:8000" in line, f"{console.place}: {line}"
            line = line.replace("localhost:8000", f"127.0.0.1:{process.port}")
            quiet = line.replace("curl ", "curl --silent --show-error --max-time 10 ", 1)
            done = subprocess.run(quiet, shell=True, capture_output=True, text=True, timeout=20)
            # Bodies such as JSON end without a new line; a terminal shows them no differently.
            shown = done.stdout.replace("\r", "").rstrip("\n")
            assert shown == expected.rstrip("\n"), f"{console.place}: {line}\n{done.stderr}"
        assert "Traceback" not in process.log, process.log


def test_other_python_compiles() -> None:
    for each in SNIPPETS:
        if each.language == "python":
            ast.parse(each.text, each.place)


def test_the_curl_lines_are_those_of_the_welcome_page() -> None:
    told = [each.text.splitlines() for each in SNIPPETS if each.kind == "sh curl"]
    lines = (ROOT / "examples/welcome/curl.txt").read_text()
    wanted = lines.replace("BASE", "http://127.0.0.1:8000").splitlines()
    assert told
    assert all(each == wanted for each in told)


def test_snippets_are_found_and_paired() -> None:
    page = "a\n```python run\nx\n```\n\n```text output\ny\n```\n`b` ```c```\n```sh\nz\n```\n"
    first, second, third = snippets_of("p", page)
    assert (first.kind, first.text, first.place) == ("python run", "x\n", "p:2")
    assert first.following is second
    assert (third.kind, third.following) == ("sh", None)
    assert commands_of("$ a b\nc\nd\n$ e\n") == [("a b", "c\nd\n"), ("e", "")]


# ---- what they name ------------------------------------------------------------------------------


@pytest.mark.source_tree
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose_of(path.read_text())):
        if ":" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


TREES = r"csrc|flowcore|tests|bench|examples|docs|\.ci"
# In prose and tables: `csrc/src/buf.c`, `docs/adr`, but not `csrc/tests/test_<unit>.c`.
NAMED = re.compile(rf"`((?:{TREES})/[\w./-]*)`|`([A-Z]\w+\.md|[A-Z]\w+\.txt|setup\.py)`")


@pytest.mark.source_tree
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_files_that_are_named_exist(path: Path) -> None:
    named = {one or other for one, other in NAMED.findall(prose_of(path.read_text()))}
    missing = sorted(each for each in named if not (ROOT / each).exists())
    assert not missing, f"{path.name} names {missing}"


@pytest.mark.source_tree
def test_make_targets_that_are_named_exist() -> None:
    known = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = {
        (path.name, target)
        for path in PAGES
        for target in re.findall(r"(?:`|^)make ([a-z][\w-]*)", path.read_text(), re.MULTILINE)
    }
    assert ("README.md", "run") in told
    assert not sorted(each for each in told if each[1] not in known)


def test_options_that_are_named_exist() -> None:
    shown = subprocess.check_output(
        [sys.executable, "-m", "flowcore", "serve", "--help"], env=environment(), text=True
    )
    known = set(re.findall(r"--[a-z][\w-]*", shown))
    for path in PAGES:
        for line in re.findall(r"flowcore serve [^\n`]*", path.read_text()):
            told = set(re.findall(r"--[a-z][\w-]*", line))
            assert told <= known, f"{path.name}: {line}"


# ---- the limits ----------------------------------------------------------------------------------


def limits_table(page: str) -> dict[str, str]:
    """Name to default, of the table behind <!-- limits -->."""
    table = page.split("<!-- limits -->\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert rows[0][:2] == ["name", "default"]
    return {row[0].strip("`"): row[1] for row in rows[2:]}


def test_the_table_of_limits_is_that_of_server_config() -> None:
    told = limits_table((ROOT / "docs/http.md").read_text())
    fields = {field.name: str(field.default) for field in dataclasses.fields(ServerConfig)}
    assert told == fields
    assert list(told) == list(fields), "in another order"


# ---- form ----------------------------------------------------------------------------------------


@pytest.mark.source_tree
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_lines_are_short(path: Path) -> None:
    long = [
        number
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (len(line) > 100 and not line.startswith("|")) or line != line.rstrip()
    ]
    assert not long, f"{path.name}: lines {long}"


@pytest.mark.source_tree
def test_decisions_are_numbered_and_fit_a_page() -> None:
    pages = sorted((ROOT / "docs/adr").glob("*.md"))
    assert [path.name[:4] for path in pages] == [f"{n:04}" for n in range(1, len(pages) + 1)]
    for path in pages:
        text = path.read_text()
        assert text.startswith(f"# {int(path.name[:4])}. "), path.name
        heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
        assert heads == ["Context", "Decision", "Consequences"], path.name
        assert len(text.splitlines()) <= 70, path.name
