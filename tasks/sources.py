"""From the name of a data set to its items: prepared files, raw files, the demo world."""

from collections.abc import Callable, Iterator
from pathlib import Path

from mipo_eval import settings
from mipo_eval.errors import ConfigError, DataError
from mipo_eval.records import Item
from mipo_eval.tasks import raw
from mipo_eval.tasks.items import read_items
from mipo_eval.tasks.questions import QUESTION_SETS, Split, load_questions

Source = Callable[[Path, Split], Iterator[Item]]


def load_source(name: str, data_dir: Path | None = None, split: Split = "test") -> Iterator[Item]:
    """Return the items of a data set, streamed where its files allow it.

    Args:
        name: a key of `SOURCES`, or the path of an item file (`something.jsonl`).
        data_dir: where files are looked for; default `settings.data_dir()`. Not used for a path.
        split: which part; an item file given by path has only the one.

    Raises:
        ConfigError: no such source.
        DataError: its files are missing or wrong; says which were looked for and what makes them.
    """
    if name in SOURCES:
        return SOURCES[name](data_dir or settings.data_dir(), split)
    if name.endswith(".jsonl"):
        return read_items(Path(name))
    raise ConfigError(f"unknown data set {name!r}; known: {', '.join(SOURCES)}, or a FILE.jsonl")


def prepared_file(name: str, data_dir: Path, split: Split) -> Path:
    """Return where the prepared items of a data set are kept."""
    return data_dir / f"{name}-{split}.jsonl"


def _prepared(name: str) -> Source:
    """Return a source that reads what `mipo-eval data prepare` wrote."""

    def load(data_dir: Path, split: Split) -> Iterator[Item]:
        path = prepared_file(name, data_dir, split)
        if not path.exists():
            raise DataError(f"{path} is not there: `mipo-eval data prepare {name}` makes it")
        return read_items(path)

    return load


def _raw(name: str, find: raw.Finder, read: raw.Reader) -> Source:
    """Return a source that reads a prepared file or else, for the test split, raw files."""

    def load(data_dir: Path, split: Split) -> Iterator[Item]:
        path = prepared_file(name, data_dir, split)
        if path.exists():
            return read_items(path)
        if split == "train":
            raise DataError(f"{path} is not there, and {name} has no training split of its own")
        files = find(data_dir)
        if not files.found:
            raise DataError(
                f"{name} was not found: looked for {path}, {', '.join(files.looked_for)};"
                f" put its files there or name their folder in {settings.DATA}"
            )
        return read(files.found)

    return load


def _demo(data_dir: Path, split: Split) -> Iterator[Item]:
    from mipo_eval.demo import world

    return iter(world.items(split, seed=0))


def _questions(name: str, *, full: bool = False) -> Source:
    """Return a source of verifiable questions: as many as the paper uses, or all."""

    def load(data_dir: Path, split: Split) -> Iterator[Item]:
        spec = QUESTION_SETS[name]
        wanted = spec.paper_test if split == "test" else spec.paper_train
        yield from load_questions(name, data_dir, split, subset=None if full else wanted)

    return load


def _svamp(data_dir: Path, split: Split) -> Iterator[Item]:
    """SVAMP; its training part is 700 questions of its own and 700 of GSM8K (PAPER, "Data")."""
    yield from _questions("svamp")(data_dir, split)
    if split == "train":
        yield from load_questions("gsm8k", data_dir, "train", subset=700)


SOURCES: dict[str, Source] = {
    "demo": _demo,
    "ca": _prepared("ca"),
    "prism": _prepared("prism"),
    "mb": _prepared("mb"),
    "psoups": _raw("psoups", raw.psoups_files, raw.psoups_items),
    "prefeval": _raw("prefeval", raw.prefeval_files, raw.prefeval_items),
    "prefeval_explicit": _raw("prefeval_explicit", raw.explicit_files, raw.prefeval_items),
    "prefeval_implicit": _raw("prefeval_implicit", raw.implicit_files, raw.prefeval_items),
    "gsm8k": _questions("gsm8k"),
    "gsm8k_full": _questions("gsm8k", full=True),
    "svamp": _svamp,
    "arc_easy": _questions("arc_easy"),
    "arc_easy_full": _questions("arc_easy", full=True),
    "arc_challenge": _questions("arc_challenge"),
    "arc_challenge_full": _questions("arc_challenge", full=True),
    "mmlu": _questions("mmlu"),
}
