"""Cited pages exist: those that the code names, and the links between the pages themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
FOLDERS: Final = ("src", "tests", "lab", "bench", "shim", "deploy")
CODE: Final = tuple(f"{folder}/**/*" for folder in FOLDERS)
CITATION: Final = re.compile(r"docs/[\w./-]+\.md(?:#[\w-]+)?")
DECISION: Final = re.compile(r"\bdecisions? (\d{4})\b")
NUMBERED: Final = re.compile(
    r"(?:(?<![\w/-])(?:ipam|datapath|meta-plugin)\.md|\b(?:architecture|[Ii]ssue))\s+\d[\d.]*"
)
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
HEADING: Final = re.compile(r"^#+ +(.*?) *$", re.MULTILINE)
FENCED: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
PUBLISHED: Final = re.compile(r"^\| `([^`<]+)` \|", re.MULTILINE)


def files(*patterns: str) -> list[Path]:
    """Return the files of the repository that match, without what programs leave behind."""
    found = (path for pattern in patterns for path in ROOT.glob(pattern))
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


@cache
def read(path: Path) -> str:
    """Return the text of a file, empty for one that is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


@cache
def anchors(path: Path) -> frozenset[str]:
    """Return the anchors of a page as GitHub makes them; a repeated heading has a number."""
    found: dict[str, int] = {}
    for heading in HEADING.findall(FENCED.sub("", read(path))):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found[slug] = found.get(slug, 0) + 1
    again = (f"{slug}-{number}" for slug, count in found.items() for number in range(1, count))
    return frozenset((*found, *again))


def broken(where: Path, page: Path, anchor: str) -> Iterator[str]:
    """Yield what is wrong with one citation."""
    place = where.relative_to(ROOT)
    if not page.exists():
        yield f"{place}: there is no {page.relative_to(ROOT)}"
    elif anchor and anchor not in anchors(page):
        yield f"{place}: {page.relative_to(ROOT)} has no heading #{anchor}"


def test_citations_of_the_code() -> None:
    """Every page that code, tests or deployment name exists, and has the heading that they name."""
    problems = [
        problem
        for path in files(*CODE)
        for citation in CITATION.findall(read(path))
        for page, _, anchor in [citation.partition("#")]
        for problem in broken(path, ROOT / page, anchor)
    ]

    assert [] == problems


def test_decisions_that_are_named_by_number() -> None:
    """Each "decision NNNN" of code and pages is one of docs/decisions."""
    there = {path.name[:4] for path in files("docs/decisions/*.md")}
    problems = [
        f"{path.relative_to(ROOT)}: there is no decision {number}"
        for path in files(*CODE, "docs/**/*.md")
        for number in DECISION.findall(read(path))
        if number not in there
    ]

    assert [] == problems


def test_no_citation_by_chapter_number() -> None:
    """Pages are cited by path and heading: numbers move, and lead readers to pages elsewhere."""
    problems = [
        f"{path.relative_to(ROOT)}: {citation!r}: cite docs/<page>.md#<heading>"
        for path in files(*CODE)
        for citation in NUMBERED.findall(read(path))
    ]

    assert [] == problems


def test_links_of_the_pages() -> None:
    """Every link from one page to another leads to a file and a heading that exist."""
    problems = [
        problem
        for path in files("*.md", "docs/**/*.md")
        for link in LINK.findall(FENCED.sub("", read(path)))
        if "://" not in link
        for page, _, anchor in [link.partition("#")]
        for target in [(path.parent / page).resolve() if page else path]
        for problem in broken(path, target, anchor if target.suffix == ".md" else "")
    ]

    assert [] == problems


def test_published_words_are_those_of_the_code() -> None:
    """What the glossary promises (annotations, states, Events, findings) stands in the code."""
    promises = read(ROOT / "docs/glossary.md").partition("## Published words")[2]
    code = "\n".join(read(path) for path in files("src/**/*.py"))
    words = [word.removeprefix("ipam.spidernet.io/") for word in PUBLISHED.findall(promises)]

    assert words
    assert [] == [word for word in words if f'"{word}"' not in code]
