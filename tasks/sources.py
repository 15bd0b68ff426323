"""From the name of a data set to its items: prepared files, published files, the hub, the demo."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from mipo_eval import rows, settings
from mipo_eval.errors import ConfigError, DataError
from mipo_eval.keys import digest
from mipo_eval.plugins import Plugin, find_plugin
from mipo_eval.records import Item
from mipo_eval.tasks.datasets import Split, content_id, lamp_qa, personamem, psoups
from mipo_eval.tasks.datasets.prefeval import (
    EXPLICIT,
    IMPLICIT,
    prefeval_conversations,
    prefeval_items,
)
from mipo_eval.tasks.items import check_items, read_items
from mipo_eval.tasks.questions import QUESTION_SETS, QuestionSet
from mipo_eval.tasks.suites import Suite

Source = Callable[[Path, Split], Iterator[Item]]
Rows = Iterator[dict[str, Any]]


def load_source(name: str, data_dir: Path | None = None, split: Split = "test") -> Iterator[Item]:
    """Return the items of a data set, or of an item file by its name, streamed where possible.

    An item file has only one part, whatever the `split`.

    Raises:
        ConfigError: no such source.
        DataError: its files are missing or wrong; says which were looked for and what makes them.
    """
    if name in SOURCES:
        return SOURCES[name](data_dir or settings.data_dir(), split)
    if own := find_plugin("suites", name):
        return _of_plugin(own, data_dir or settings.data_dir(), split)
    if rows.names_rows(name):
        return read_items(name)
    raise ConfigError(f"unknown data set {name!r}; known: {', '.join(SOURCES)}, or {rows.FORMS}")


def _of_plugin(own: Plugin, data_dir: Path, split: Split) -> Iterator[Item]:
    """Return the items of a plug-in's suite: a function of the split, and of the data folder.

    Raises:
        ConfigError: it failed.
        DataError: a row is no item, two have one id, or there is none.
    """
    # Drawn here, so that what goes wrong in a generator is told as the plug-in's too.
    found = own.listed(split, data_dir)
    return check_items(found, f"{own}, split {split}")


def prepared_file(name: str, data_dir: Path, split: Split) -> Path:
    """Return where the prepared items of a data set are kept."""
    return data_dir / f"{name}-{split}.jsonl"


def _items(
    name: str,
    patterns: tuple[str, ...] = (),
    read: Callable[[Path, Rows], Iterator[Item]] | None = None,
) -> Source:
    """Return a source that reads prepared items or else, for the test split, published files.

    `read` turns the rows of a file that has one of the `patterns` into items; without it
    `mipo-eval data prepare` has to.
    """

    def load(data_dir: Path, split: Split) -> Iterator[Item]:
        path = prepared_file(name, data_dir, split)
        if path.exists():
            return read_items(path)
        if read is None:
            raise DataError(f"{path} is missing: make it with `mipo-eval data prepare {name}`")
        if split == "train":
            raise DataError(f"{path} is missing, and {name} has no training items of its own")
        files = [file for pattern in patterns for file in sorted(data_dir.glob(pattern))]
        if not files:
            looked_for = ", ".join(str(data_dir / pattern) for pattern in patterns)
            raise DataError(
                f"{name} was not found: looked for {path}, {looked_for};"
                f" put its files there or name their folder in {settings.DATA}"
            )
        return chain.from_iterable(read(file, read_rows(file)) for file in files)

    return load


def _demo(data_dir: Path, split: Split) -> Iterator[Item]:
    from mipo_eval.demo import world

    return iter(world.items(split, seed=0))


def _everyday(data_dir: Path, split: Split) -> Iterator[Item]:
    from mipo_eval.everyday import world

    return read_items(world.shipped(split))


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
    "everyday": _everyday,
    "ca": _items("ca"),
    "prism": _items("prism"),
    "mb": _items("mb"),
    "psoups": _items("psoups", psoups.FILES, psoups.psoups_items),
    "prefeval": _items("prefeval", EXPLICIT + IMPLICIT, prefeval_items),
    "prefeval_explicit": _items("prefeval_explicit", EXPLICIT, prefeval_items),
    "prefeval_implicit": _items("prefeval_implicit", IMPLICIT, prefeval_items),
    "prefeval_conversation": _items("prefeval_conversation", IMPLICIT, prefeval_conversations),
    "lamp_qa": _items("lamp_qa", lamp_qa.FILES, lamp_qa.lamp_qa_items),
    "personalized_rewardbench": _items(
        "personalized_rewardbench", lamp_qa.PAIR_FILES, lamp_qa.rewardbench_items
    ),
    **{
        name: _items(
            name,
            (personamem.FILES.format(size=size),),
            lambda file, _: personamem.personamem_items(file),
        )
        for name, size in (("personamem", "32k"), ("personamem_128k", "128k"))
    },
    "gsm8k": _questions("gsm8k"),
    "gsm8k_full": _questions("gsm8k", full=True),
    "svamp": _svamp,
    "arc_easy": _questions("arc_easy"),
    "arc_easy_full": _questions("arc_easy", full=True),
    "arc_challenge": _questions("arc_challenge"),
    "arc_challenge_full": _questions("arc_challenge", full=True),
    "mmlu": _questions("mmlu"),
}


def load_questions(
    name: str, data_dir: Path, split: Split = "test", *, subset: int | None = None, seed: int = 0
) -> list[Item]:
    """Return the questions of a set: local files of the data folder first, else the hub.

    `subset` draws so many of them; None: all, in the order of the file. A question's place in the
    draw depends on its content only, so the same questions are drawn from the hub, a local file,
    or a reordered one.

    Raises:
        DataError: neither local files nor the hub can be read, a row is not in the known schema,
            or there are fewer questions than `subset`.
    """
    items: list[Item] = []
    seen: Counter[str] = Counter()
    for item in _found_questions(QUESTION_SETS[name], data_dir, split):
        own = content_id(f"{name}-{split}", [item.prompt, item.reference], seen)
        items.append(item.model_copy(update={"item_id": own}))
    if subset is None:
        return items
    if len(items) < subset:
        raise DataError(
            f"{name} has only {len(items)} {split} questions here, fewer than the {subset} asked "
            f"for: complete the files in {data_dir}, or ask for fewer (subset; null for all)"
        )
    return sorted(items, key=lambda item: digest([seed, item.prompt, item.item_id]))[:subset]


def _found_questions(spec: QuestionSet, data_dir: Path, split: Split) -> Iterator[Item]:
    if files := first_match(data_dir, spec.files[split]):
        for path in files:
            yield from spec.items(read_rows(path), str(path), path.stem)
        return
    if spec.unsplit and (path := data_dir / spec.unsplit).is_file():
        items = list(spec.items(read_rows(path), str(path), path.stem))
        # Not the hub's split, whose draw was not published: one by content.
        drawn = sorted(items, key=lambda item: digest(item.prompt))[: spec.paper_test]
        test = {item.prompt for item in drawn}
        yield from (item for item in items if (item.prompt in test) == (split == "test"))
        return
    hub_split = spec.hub_train if split == "train" else split
    try:
        found = rows.hub_rows(spec.hub, spec.config, spec.revision, hub_split)
    except DataError as error:
        looked_for = [*spec.files[split], *([spec.unsplit] if spec.unsplit else [])]
        raise DataError(
            f"no local file ({', '.join(str(data_dir / name) for name in looked_for)}) and {error}"
        ) from error
    yield from spec.items(found, f"{spec.hub}@{str(spec.revision)[:8]}", spec.hub)


def first_match(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """Return the files of the first pattern that has any, in the same order everywhere."""
    return next((found for pattern in patterns if (found := sorted(folder.glob(pattern)))), [])


def read_rows(path: Path) -> Rows:
    """Yield the rows of a JSONL, JSON, CSV or Parquet file.

    A CSV file without a header of words gets the columns of the original MMLU files: question,
    choice0, choice1, ..., answer.

    Raises:
        DataError: the file cannot be read, or is not of the kind its name says.
    """
    if path.suffix == ".csv":
        yield from _csv(path)
    else:
        yield from (row.data for row in rows.read_rows(path))


def _csv(path: Path) -> Rows:
    (_, first), *_ = chain(islice(rows.csv_cells(path), 1), [(0, [])])
    if "question" in first or "conversation_id" in first:
        yield from (row.data for row in rows.read_rows(path))
        return
    header = ["question", *(f"choice{n}" for n in range(len(first) - 2)), "answer"]
    for number, row in rows.csv_cells(path):
        if len(row) != len(header):
            raise DataError(f"{path}, row {number}: {len(row)} columns, expected {len(header)}")
        yield dict(zip(header, row, strict=True))


def hub_commit(name: str) -> str:
    """Return the newest commit of a hub data set, so that a preparation can be repeated.

    Raises:
        DataError: the hub cannot be reached, or access was not granted.
    """
    from huggingface_hub import HfApi

    with rows.reaching_hub(name):
        return str(HfApi().dataset_info(name).sha)


def suite_items(
    suite: Suite, data_dir: Path, limit: int | None = None
) -> Iterator[tuple[str, Iterator[Item]]]:
    """Yield each task's name with its test items, streamed; `limit` keeps the first of each."""
    for task in suite.tasks:
        yield task.name, islice(load_source(task.source, data_dir, "test"), limit)
