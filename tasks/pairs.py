"""Labelled pairs by name: the published sets in the data folder, and files of our own form.

llmbar       llmbar/**/dataset.json                               all subsets
judgebench   judgebench/dataset=judgebench,response_model=*.jsonl
pandalm      pandalm/testset-v1.json                              with its three people
psoups       psoups_alignx/*.json, psoups/*.json                  the persona is the preference
personalized_rewardbench          the judge is told the author's earlier posts, as is published
personalized_rewardbench_aspects  it is told what the author wants covered, as it is in evaluations
             personalized_rewardbench/**/*test*
everyday     what the rules of the suite tell apart                by construction
ca, prism    ca-test.jsonl, prism-test.jsonl                      as `data prepare` makes them
FILE.jsonl   or another form of mipo_eval/rows.py: see judges/labelled.py
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mipo_eval import settings
from mipo_eval.errors import ConfigError, DataError
from mipo_eval.judges.labelled import (
    PAIR_SETS,
    LabelledPair,
    first_of_each,
    mixed,
    pair_rows,
    pairs_of_items,
    read_pairs,
)
from mipo_eval.judges.people import people_pairs
from mipo_eval.judges.replies import PairReading, is_reply_file, read_replies, read_set_replies
from mipo_eval.keys import item_rng
from mipo_eval.rows import FORMS, names_rows
from mipo_eval.store.engine import Store
from mipo_eval.tasks.datasets import psoups
from mipo_eval.tasks.sources import load_source, prepared_file

_PREPARED, _EVERYDAY = ("ca", "prism"), "everyday"
_BY_POSTS, _BY_ASPECTS = "personalized_rewardbench", "personalized_rewardbench_aspects"
SETS = (*PAIR_SETS, _BY_POSTS, _BY_ASPECTS, _EVERYDAY, *_PREPARED)
"""Every name that `load_pairs` knows."""
_SUITS = "The reply suits this user, as far as their earlier posts show what they like and need."


def load_pairs(name: str, data_dir: Path) -> tuple[LabelledPair, ...]:
    """Return labelled pairs, each with an id of its own, by a name of `SETS` or of a file.

    Where the chosen response always comes first, the two are exchanged in about half of the pairs.

    Raises:
        ConfigError: no such set.
        DataError: its files are missing or wrong; says which were looked for.
    """
    pairs = _found(name, data_dir)
    return mixed(pairs) if {pair.label for pair in pairs} == {"a"} else pairs


OF_STORE = "store:"
"""Before the names of people whose labels on the board are meant."""


def named_pairs(
    store: Store, data: str, folder: Path, limit: int | None
) -> tuple[LabelledPair, ...]:
    """Return labelled pairs by a name of `load_pairs`, or `store:WHO`; the first of each set.

    Raises:
        MipoEvalError: as `load_pairs`; or nobody of that name labelled anything.
    """
    people = data.removeprefix(OF_STORE).split(",")
    own = data.startswith(OF_STORE)
    return first_of_each(people_pairs(store, people) if own else load_pairs(data, folder), limit)


def shown_name(data: str) -> str:
    """Return what pairs are called: a set's name, or a file's without its folders."""
    return Path(data).name if names_rows(data) else data


def load_replies(name: str, data_dir: Path, files: Sequence[Path]) -> tuple[PairReading, ...]:
    """Return what a judge's stored replies say of labelled pairs, one reading per pair.

    The files are of the set's own format, which holds the pairs too (LLMBar's `result.json`,
    JudgeBench's and PandaLM's files), or one file of the form of judges/replies.py.

    Raises:
        ConfigError: no such set.
        DataError: a file cannot be read, is of another form, or holds no replies.
    """
    if is_reply_file(files[0]):
        if len(files) > 1:
            raise ConfigError(
                f"{files[0]} is a file of replies in mipo-eval's form: name only this one"
            )
        return read_replies(files[0], _found(name, data_dir))
    if name not in PAIR_SETS:
        raise DataError(
            f"{files[0]} is not a file of replies: it needs one JSON object on each line, with "
            "pair_id and reply"
        )
    readings = [reading for file in files for reading in read_set_replies(name, file)]
    pairs = _with_own_ids(reading.pair for reading in readings)
    return tuple(replace(reading, pair=pair) for reading, pair in zip(readings, pairs, strict=True))


def _found(name: str, data_dir: Path) -> tuple[LabelledPair, ...]:
    if names_rows(name):
        return read_pairs(name)
    if name in _PREPARED:
        if not (pairs := pairs_of_items(load_source(name, data_dir))):
            raise DataError(
                f"{prepared_file(name, data_dir, 'test')}: no item has the response that its user "
                "did not choose (meta.rejected): make items that have it with `mipo-eval data "
                f"prepare {name}`"
            )
        return pairs
    if name == _EVERYDAY:
        return tuple(_by_rule(data_dir))
    if name in {_BY_POSTS, _BY_ASPECTS}:
        return _rewardbench(data_dir, posts=name == _BY_POSTS)
    if name not in FILES:
        known = ", ".join(SETS)
        raise ConfigError(f"unknown labelled pairs {name!r}; known: {known}, or {FORMS}")
    patterns = FILES[name]
    found = [file for pattern in patterns for file in sorted(data_dir.glob(pattern))]
    files = [file for file in found if ",judge_name=" not in file.name]  # those hold replies too
    if not files:
        looked_for = ", ".join(str(data_dir / pattern) for pattern in patterns)
        raise DataError(
            f"{name} was not found: looked for {looked_for}; put its files there or name their "
            f"folder with --data-dir or {settings.DATA}"
        )
    return _with_own_ids(pair for file in files for pair, _ in pair_rows(name, file))


def _by_rule(data_dir: Path) -> Iterator[LabelledPair]:
    """Yield pairs of answers to the items of the suite everyday that differ in one wish.

    Which is better is known since they were put together so, and by the suite's rules.
    """
    from mipo_eval.everyday.answers import contrast

    for item in load_source(_EVERYDAY, data_dir):
        if found := contrast(item, item_rng(0, "pair", item.item_id)):
            yield LabelledPair(
                pair_id=item.item_id,
                prompt=item.prompt,
                first=found.better,
                second=found.worse,
                label="a",
                preferences=item.preferences,
                group=item.group,
                subset=found.broken.partition(":")[0],
            )


def _rewardbench(data_dir: Path, *, posts: bool) -> tuple[LabelledPair, ...]:
    """Return the pairs of Personalized RewardBench, whose chosen response keeps to the aspects.

    As it is published a judge must not see these and infers from earlier posts what the author
    likes (`posts`); our judges are told the wishes, as in evaluations.
    """
    items = list(load_source(_BY_POSTS, data_dir))
    if posts:
        items = [
            item.model_copy(
                update={"prompt": f"{item.context}\n\n{item.prompt}", "preferences": (_SUITS,)}
            )
            for item in items
        ]
    return tuple(
        pair.model_copy(update={"subset": item.meta["category"]})
        for pair, item in zip(pairs_of_items(items), items, strict=True)
    )


def _with_own_ids(pairs: Iterable[LabelledPair]) -> tuple[LabelledPair, ...]:
    """Return pairs of several files with ids that tell them apart."""
    found = tuple(pairs)
    seen = Counter(pair.pair_id for pair in found)
    made = tuple(
        pair.model_copy(update={"pair_id": f"{pair.subset}/{pair.pair_id}"})
        if seen[pair.pair_id] > 1 and pair.subset
        else pair
        for pair in found
    )
    repeated = [name for name, n in Counter(pair.pair_id for pair in made).items() if n > 1]
    if repeated:
        raise DataError(
            f"the pair {repeated[0]!r} is in these files more than once: name other files"
        )
    return made


FILES = {
    "llmbar": ("llmbar/**/dataset.json",),
    "judgebench": ("judgebench/dataset=judgebench,response_model=*.jsonl",),
    "pandalm": ("pandalm/testset-v1.json",),
    "psoups": psoups.FILES,
}
"""Name to the patterns of its files in the data folder."""
