"""The glossary's words are the ones that are used."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
GLOSSARY = (REPOSITORY / "docs" / "glossary.md").read_text()
OTHER_WORDS = {
    "detectable difference": r"\bcan show[\":]|could have shown\"|minimum detectable|\bMDE\b",
    "unscored": r"unjudged|not scored items",
    "position flip": r"position bias|swap consistency",
    "interval": r"95% CI|95 % CI",
    "personalized prompting": r"personalised|with-context prompting",
}
"""Term to what must not be said for it."""
SOURCES = sorted(
    path
    for folder in ("mipo_eval/cli", "mipo_eval/reports", "dashboards", "judges", "tasks")
    for path in (REPOSITORY / folder).rglob("*.py")
)


def _terms() -> dict[str, list[str]]:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]*) \| [^|]+ \|$", GLOSSARY, re.MULTILINE)
    return {term: re.findall(r"`([^`]+)`", names) for term, names in rows if term != "term"}


def test_it_is_short_and_each_term_stands_once() -> None:
    assert 30 <= len(_terms()) <= 40
    assert GLOSSARY.count("\n| ") == len(_terms()) + 1


def test_every_name_is_one_that_the_code_has() -> None:
    code = "\n".join(
        path.read_text()
        for folder in ("mipo_eval", "dashboards", "judges", "tasks", "training")
        for path in (REPOSITORY / folder).rglob("*")
        if path.suffix in {".py", ".yaml"}
    )
    missing = [name for names in _terms().values() for name in names if name not in code]
    assert not missing


@pytest.mark.parametrize("term", OTHER_WORDS)
def test_no_other_word_is_used(term: str) -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}: {line.strip()}"
        for path in SOURCES
        for line in path.read_text().splitlines()
        if re.search(OTHER_WORDS[term], line)
    ]
    assert not found
