"""Reads the documents: their tables, code blocks, commands and links."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.receiver import ROOT

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"`([\w./]+\.py)`")
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
# How a command of this project begins. Other code within a sentence is no command.
OWN = re.compile(r"(make [a-z]|python -m |\./deploy\.sh\b|\.ci/run\b|functions-framework )")
ASSIGNMENT = re.compile(r"([A-Z_]+)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Document:
    """A Markdown file of the project."""

    path: Path

    @property
    def name(self) -> str:
        """Its path from the root of the project."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        """Its whole text."""
        return self.path.read_text()

    def table(self, heading: str) -> list[list[str]]:
        """The rows of the table whose first column has this heading. Raises ValueError without one."""
        lines = self.text.splitlines()
        first = next((i for i, line in enumerate(lines) if line.startswith(f"| {heading} |")), None)
        if first is None:
            raise ValueError(f"{self.name} has no table that begins with {heading}")
        rows: list[list[str]] = []
        for line in lines[first + 2 :]:
            if not line.startswith("|"):
                break
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
        return rows

    def blocks(self, language: str) -> list[str]:
        """The code blocks in a language."""
        return [found[2] for found in BLOCK.finditer(self.text) if found[1] == language]

    def modules(self) -> Iterator[tuple[str, str]]:
        """Each Python block with the file that it is for, which the text before the block names last."""
        for found in BLOCK.finditer(self.text):
            if found[1] == "python":
                yield FILE.findall(self.text[: found.start()])[-1], found[2]

    def commands(self) -> Iterator["Command"]:
        """Every line of a shell block, and this project's own commands in sentences."""
        for block in self.blocks("sh"):
            for line in block.splitlines():
                yield from commands(line)
        for code in CODE.findall(BLOCK.sub("", self.text)):
            if OWN.match(code):
                yield from commands(code)

    def links(self) -> set[str]:
        """The targets of its relative links, from its own folder."""
        return set(LINK.findall(self.text))


@dataclass(frozen=True)
class Command:
    """One command of a shell line: the variables that are set for it, and its words."""

    variables: dict[str, str]
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """The command as a user may type it."""
        return " ".join(
            [*(f"{name}={value}" for name, value in self.variables.items()), shlex.join(self.words)]
        )


def commands(line: str) -> Iterator[Command]:
    """The commands of a shell line; comments, and where the output goes, are left out."""
    words = shlex.split(line, comments=True)
    while words:
        end = words.index("&&") if "&&" in words else len(words)
        yield _command(words[:end])
        words = words[end + 1 :]


def _command(words: list[str]) -> Command:
    variables: dict[str, str] = {}
    while found := ASSIGNMENT.fullmatch(words[0]):
        variables[found[1]] = found[2]
        words = words[1:]
    if ">" in words:
        words = words[: words.index(">")]
    return Command(variables, tuple(words))


README = Document(ROOT / "README.md")
DOCUMENTS = [
    Document(path)
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "bench" / "README.md"])
]


def document(name: str) -> Document:
    """A document of docs/."""
    return Document(ROOT / "docs" / f"{name}.md")
