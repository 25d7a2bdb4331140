"""The docs are true: settings, commands, links and folders that they name exist."""

from __future__ import annotations

import re
import resource
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from headrace import credentials
from headrace import recipe as recipes
from headrace.cli import COMMANDS, cli
from headrace.download import listing
from headrace.settings import Settings
from tests.conftest import ROOT

DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
DOCS += sorted((ROOT / "deployments").glob("*.md"))

HELP_SECONDS = 0.3
"""DESIGN.md, the command line: ``--help`` of any command."""
HELP_TRIES = 5

_FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`(headrace [^`]+)`(?!`)")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def read(path: Path) -> str:
    """Return a document's text."""
    return path.read_text(encoding="utf-8")


def name(path: Path) -> str:
    """Return a document's path as the tests' ids show it."""
    return str(path.relative_to(ROOT))


def test_every_setting_is_documented():
    """``docs/settings.md`` has a row for each field of ``headrace/settings.py``, and none for another."""
    documented = set(re.findall(r"`HEADRACE_([A-Z0-9_]+)`", "\n".join(rows(read(ROOT / "docs/settings.md")))))
    assert documented == {field.upper() for field in Settings.model_fields}


def rows(text: str) -> list[str]:
    """Return the first cells of a document's tables."""
    return [line.split("|")[1] for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("field", [one for one, about in Settings.model_fields.items() if type(about.default) is int])
def test_documented_defaults_are_the_real_ones(field):
    """The number in a setting's row is its default."""
    row = next(line for line in read(ROOT / "docs/settings.md").splitlines() if f"| `HEADRACE_{field.upper()}`" in line)
    assert re.search(rf"\b{Settings.model_fields[field].default}\b", row.split("|")[2])


def commands_in(text: str) -> list[str]:
    """Return the lines of a document that show a ``headrace`` command."""
    found = _INLINE.findall(text)
    for block in _FENCE.findall(text):
        for line in block.splitlines():
            for part in re.split(r" · |&& |; ", line.partition("#")[0]):
                word = part.strip().removeprefix(".venv/bin/").removeprefix("$(BIN)/")
                if word.startswith("headrace ") or word.split(" ")[0] in {*COMMANDS, "watch"}:
                    found.append(word if word.startswith("headrace ") else f"headrace {word}")
    return [one for one in found if not one.startswith(("headrace/", "headrace ["))]


@cache
def help_of(words: tuple[str, ...]) -> tuple[click.Command, str] | None:
    """Return a command and its help, or ``None`` where there is no such command."""
    command: click.Command | None = cli
    for word in words:
        if not isinstance(command, click.Group):
            return None
        command = command.get_command(click.Context(command), word)
    if command is None:
        return None
    return command, CliRunner().invoke(cli, [*words, "--help"]).output


def shown_commands() -> list[tuple[str, str]]:
    """Return each document with each command that it shows."""
    return [(name(doc), one) for doc in DOCS for one in dict.fromkeys(commands_in(read(doc)))]


@pytest.mark.parametrize(("doc", "shown"), shown_commands())
def test_a_documented_command_exists_with_its_options(doc, shown):
    """Whoever copies a command gets no usage error about an unknown command or option."""
    words = shlex.split(shown.replace("[", " ").replace("]", " ").replace("|", " ").replace("'", "").replace("(", ""))[
        1:
    ]
    if words[0].startswith("-"):
        path: tuple[str, ...] = ()
    elif words[0] == "watch" and len(words) > 1:
        path = ("watch", words[1])
    else:
        path = (words[0],)
    known = help_of(path)
    assert known is not None, f"{doc}: there is no command {' '.join(path)!r}"
    for option in (word for word in words if re.fullmatch(r"-[a-z]|--[a-z0-9-]+", word)):
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", known[1]), f"{doc}: {shown!r} has no {option}"


def test_the_docs_show_every_command():
    """A command that no document shows is one that nobody finds."""
    shown = {shlex.split(one.replace("[", " ").replace("'", ""))[1] for _, one in shown_commands()}
    assert set(COMMANDS) <= shown


@pytest.mark.parametrize("doc", DOCS, ids=name)
def test_relative_links_lead_somewhere(doc):
    """Each link to a file of this repository names one that is there, and each anchor a heading."""
    for target in _LINK.findall(read(doc)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (doc.parent / path).resolve() if path else doc
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", read(file), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", one).strip().lower().replace(" ", "-") for one in headings}, target


def test_the_code_map_names_what_is_there():
    """Each folder and file of the README's map exists."""
    text = read(ROOT / "README.md").partition("## The code\n")[2]
    named = [one for row in rows(text) for one in re.findall(r"`([^`]+)`", row)]
    assert len(named) > 8
    for one in named:
        assert (ROOT / one).exists(), one


def test_the_guides_recipe_is_web_with_every_field():
    """The YAML of the guide is a recipe, has all fields, and its values are the defaults that it says they are."""
    block = next(one for one in _FENCE.findall(read(ROOT / "docs/guide.md")) if one.startswith("name: "))
    shown = yaml.safe_load(block)
    whole = recipes.named("web").model_dump(mode="json")
    assert {**shown, "name": "web"} == whole
    assert recipes.parse(shown).identity == recipes.named("web").identity


def test_the_documented_credential_can_be_used():
    """The TOML of the settings says all that a section can say."""
    block = next(one for one in _FENCE.findall(read(ROOT / "docs/settings.md")) if one.startswith("[archive]"))
    (found,) = credentials.parse(block, ROOT).values()
    assert found.shown.hosts == ("archive.example.org", "*.example.net")
    for key in credentials._KINDS:
        assert re.search(rf"\b{key} = ", block), key


def test_the_documented_list_can_be_read():
    """And it names every option that there is."""
    text = read(ROOT / "docs/guide.md")
    block = next(one for one in _FENCE.findall(text) if one.startswith("# one file from"))
    first, second = listing.parse(block)
    assert len(first.urls) == 2
    assert (first.name, first.folder, second.connections) == ("rivers.mkv", "films/2026", 4)
    for option in listing._OPTIONS:
        assert f"`{option}`" in text, option


@pytest.mark.parametrize("command", ["", *COMMANDS, "watch add"])
def test_help_answers_at_once(command, tmp_path):
    """The fastest of five takes at most 300 ms of processor time, which other work on the machine does not blur."""
    argv = [sys.executable, "-m", "headrace.cli", *command.split(), "--help"]
    taken = []
    for _ in range(HELP_TRIES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(argv, cwd=ROOT, capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        if min(taken) <= HELP_SECONDS:
            return
    pytest.fail(f"it takes {min(taken):.2f} s")
