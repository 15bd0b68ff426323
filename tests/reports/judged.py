"""A small store that models and judges of two families filled, made without asking anybody."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from mipo_eval.records import Item, Rating, Response, Run, text_key
from mipo_eval.store import Store
from mipo_eval.store.engine import now
from mipo_eval.store.items import put_list
from mipo_eval.store.judges import put_judge
from mipo_eval.store.responses import put_generation, put_responses
from mipo_eval.store.runs import put_run
from mipo_eval.store.verdicts import put_choices, put_ratings
from mipo_eval.verdict import Choice, Shown

ITEMS = [
    Item(
        item_id=f"tea-{n}",
        prompt=f"What is tea {n}?",
        preferences=("Be brief.", "Be kind."),
        reference=f"reference {n}",
        group_id=f"g{n // 2}",
    )
    for n in range(24)
]
Rule = Callable[[str, int, int], int]
"""From who wrote a text ("reference" too), the item's number and the preference to a rating."""


def text_of(model: str, number: int) -> str:
    """What a model answers; a wordy one adds up to thirty characters."""
    return f"{model} says {number}" + " at length" * (number % 4 if "wordy" in model else 0)


def add_run(store: Store, model: str, *, tokens: bool = False, same: Collection[int] = ()) -> Run:
    """Store a run of a model over all items.

    Args:
        store: where to.
        model: its name.
        tokens: whether it tells how many it wrote (words).
        same: numbers of the items that every model answers with the same text.
    """
    list_key, n = put_list(store, [("tea", ITEMS)])
    key = f"{model}-generation".ljust(32, "0")[:32]
    put_generation(store, key, {"model": model})
    put_responses(
        store,
        key,
        [
            Response(
                item_key=item.key,
                text=text_of("any" if number in same else model, number),
                prompt_hash="p",
                final=True,
                response_tokens=len(text_of(model, number).split()) if tokens else None,
            )
            for number, item in enumerate(ITEMS)
        ],
    )
    run = Run(
        run_id=f"{model}-run".ljust(32, "0")[:32],
        model=model,
        suite="tea",
        prompting="personalized",
        seed=0,
        list_key=list_key,
        n_items=n,
        generation_key=key,
        environment={},
        created_at=now(),
        updated_at=now(),
    )
    put_run(store, run)
    return run


def add_rater(store: Store, name: str, models: list[str], rule: Rule) -> str:
    """Store a judge's ratings of the references and of the models' responses; return its key."""
    key = f"{name}-key".ljust(32, "0")[:32]
    put_judge(store, key, name, {"protocol": "rubric", "backend": {"model": f"org/{name}"}})
    put_ratings(
        store,
        [
            Rating(
                judge=key,
                item_key=item.key,
                text_key=text_key(
                    (item.reference or "") if model == "reference" else text_of(model, number)
                ),
                aspect=aspect,
                rating=rule(model, number, aspect),
                reason=None,
                call_key="c",
            )
            for model in ["reference", *models]
            for number, item in enumerate(ITEMS)
            for aspect in range(2)
        ],
    )
    return key


def add_chooser(
    store: Store, name: str, said: Mapping[int, tuple[str, ...]], *, model: str, human: bool = False
) -> str:
    """Store choices between a model's responses and the references; return who made them.

    Args:
        store: where to.
        name: of the judge or person.
        said: item's number to the winners in the two orders, or in one.
        model: whose responses are "a".
        human: whether it is a person.
    """
    key = f"{name}-key".ljust(32, "0")[:32]
    put_judge(
        store, key, name, {"kind": "human", "name": name} if human else {"protocol": "pairwise"}
    )
    orders: tuple[Shown, Shown] = ("a", "b")
    with store.write() as connection:
        put_choices(
            store,
            connection,
            [
                Choice(
                    judge_key=key,
                    item_key=ITEMS[number].key,
                    text_key_a=text_key(text_of(model, number)),
                    text_key_b=text_key(ITEMS[number].reference or ""),
                    shown_first=shown,
                    winner=winner,  # type: ignore[arg-type]
                )
                for number, winners in said.items()
                for shown, winner in zip(orders, winners, strict=False)
            ],
        )
    return key


def open_store(tmp_path: Path) -> Store:
    """A store of the test's own."""
    return Store.open(str(tmp_path / "judged.db"))
