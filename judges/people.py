"""Labels that people gave to responses in the store, as on the board's Label page.

A person is a judge whose spec says `kind: human`; what they preferred is kept as choices.
"""

from collections.abc import Sequence

from mipo_eval.errors import DataError
from mipo_eval.judges.labelled import LabelledPair, majority
from mipo_eval.records import text_key
from mipo_eval.store.engine import Store
from mipo_eval.store.items import items_by_key
from mipo_eval.store.judges import find_people
from mipo_eval.store.responses import texts_by_key
from mipo_eval.store.verdicts import chosen_pairs, pair_verdicts
from mipo_eval.verdict import Pair, Verdict


def labels_of(store: Store, people: Sequence[str]) -> dict[Pair, list[Verdict | None]]:
    """Return what each of these people said, in their order, of every pair that one of them saw.

    All people mean the same text by "a": the pair is as it was stored first. Who was
    shown a pair twice and contradicted themselves called it a tie.
    """
    pairs = chosen_pairs(store, people)
    said = [[one.winner for one in pair_verdicts(store, person, pairs)] for person in people]
    told = zip(pairs, zip(*said, strict=True), strict=True)
    return {pair: list(by_person) for pair, by_person in told if any(by_person)}


def people_pairs(store: Store, names: Sequence[str]) -> tuple[LabelledPair, ...]:
    """Return the pairs that people labelled in the store, with the majority's label.

    Pairs on which no label is ahead are left out, and so are those whose texts the store does not
    hold.

    `names` are of people, or `people` for everybody.

    Raises:
        ConfigError: nobody of that name has labelled anything.
        DataError: not one pair is left.
    """
    labels = labels_of(store, find_people(store, names))
    items = items_by_key(store, {pair.item_key for pair in labels})
    texts = texts_by_key(store, {key for pair in labels for key in (pair.first, pair.second)})
    texts |= {text_key(item.reference): item.reference for item in items.values() if item.reference}
    made = []
    for pair, said in labels.items():
        label = majority(said)
        item, first, second = (
            items.get(pair.item_key),
            texts.get(pair.first),
            texts.get(pair.second),
        )
        if label is None or item is None or first is None or second is None:
            continue
        made.append(
            LabelledPair(
                pair_id=f"{item.item_id}/{pair.first[:8]}-{pair.second[:8]}",
                prompt=item.transcript,
                first=first,
                second=second,
                label=label,
                preferences=item.preferences,
                annotators=tuple(said),
                group=item.group,
            )
        )
    if not made:
        raise DataError(
            f"{store.name} has {len(labels)} labelled pairs, but none with a majority and both "
            "texts: label more"
        )
    return tuple(made)
