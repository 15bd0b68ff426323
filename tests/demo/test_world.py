import shutil
from pathlib import Path

import pytest

from mipo_eval.demo import world
from mipo_eval.demo.grammar import (
    BY_STATEMENT,
    DIMENSIONS,
    PREFERENCES,
    TEXTS,
    VALUES,
    Style,
    compose,
    load_texts,
    questions,
    topics,
)
from mipo_eval.demo.rules import RULES, incoherence, rate
from mipo_eval.errors import ConfigError
from mipo_eval.keys import digest, item_rng
from mipo_eval.marks import read, words_of
from mipo_eval.records import Item
from mipo_eval.verdict import SATISFIED


@pytest.fixture(scope="module")
def test_items() -> list[Item]:
    return list(world.items("test"))


@pytest.fixture(scope="module")
def train_items() -> list[Item]:
    return list(world.items("train"))


def test_sizes(test_items: list[Item], train_items: list[Item]) -> None:
    assert (len(test_items), len(train_items)) == (200, 2000)
    assert len(topics("train")) + len(topics("test")) >= 40
    assert len(DIMENSIONS) == 5
    assert all(len(VALUES[dimension]) >= 3 for dimension in DIMENSIONS)


def test_a_changed_item_needs_a_new_version(
    test_items: list[Item], train_items: list[Item]
) -> None:
    """A changed letter of a YAML file changes every number of the demo (see CONTRIBUTING)."""
    found = digest([item.model_dump(mode="json") for item in (*test_items, *train_items)])
    assert (world.VERSION, found[:8]) == ("2", "27ff05ac")


def test_every_open_sentence_has_what_completes_it() -> None:
    for wish in PREFERENCES.values():
        if any(lead.endswith(" ") for lead in (*wish.openings, *wish.closings)):
            assert all(family.details[wish.value] for family in TEXTS.families)


@pytest.mark.parametrize(
    ("file", "old", "new", "why"),
    [
        ("advice.yaml", "families:", "families: [", "while parsing"),
        ("advice.yaml", "article: the", "article: that", r"families\.0\.article: Input should be"),
        ("advice.yaml", "dust off {x}", "dust off {y}", r"'Brush the .*' has a slot that nothing"),
        ("advice.yaml", "verb: clean", "verbs: clean", r"families\.0\.verb: Field required"),
        ("advice.yaml", "  need:", "  want:", r"questions\.want"),
        ("preferences.yaml", "dimension: tone", "dimension: mood", r"preferences\.0\.dimension"),
        ("preferences.yaml", "about_me:", "about_you:", "about_me: Field required"),
        ("preferences.yaml", "", "", "No such file"),
    ],
)
def test_broken_texts_are_told(tmp_path: Path, file: str, old: str, new: str, why: str) -> None:
    for name in ("advice.yaml", "preferences.yaml"):
        shutil.copy(Path(world.__file__).with_name(name), tmp_path)
    assert load_texts(tmp_path) == TEXTS
    text = (tmp_path / file).read_text(encoding="utf-8")
    (tmp_path / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    if not old:
        (tmp_path / file).unlink()
    with pytest.raises(ConfigError, match=rf"texts in .* are broken \(.*{why}.*install mipo-eval"):
        load_texts(tmp_path)


def test_same_seed_same_items_and_another_seed_others(test_items: list[Item]) -> None:
    assert list(world.items("test", seed=0)) == test_items
    other = list(world.items("test", seed=1))
    assert {item.key for item in other}.isdisjoint(item.key for item in test_items)


def test_ids_are_unique_and_contents_too(test_items: list[Item], train_items: list[Item]) -> None:
    both = [*test_items, *train_items]
    assert len({item.item_id for item in both}) == len(both)
    assert len({item.key for item in both}) == len(both)


def test_splits_share_no_topic_no_user_no_prompt(
    test_items: list[Item], train_items: list[Item]
) -> None:
    for fact in (
        lambda item: item.meta["topic"],
        lambda item: item.user_id,
        lambda item: item.prompt,
        lambda item: item.group_id,
    ):
        assert {fact(item) for item in test_items}.isdisjoint(fact(item) for item in train_items)


def test_training_text_never_asks_about_a_held_out_topic() -> None:
    held_out = {topic.question(kind, wording) for topic, kind, wording in questions("test")}
    assert held_out.isdisjoint(world.exchange(number).item.prompt for number in range(3000))


def test_every_word_of_a_held_out_topic_occurs_in_a_training_topic() -> None:
    for family in TEXTS.families:
        for thing in family.held_out:
            modifier, noun = thing.split()
            assert modifier in family.modifiers
            assert noun in family.nouns


def test_a_prompt_has_one_group_and_several_users(test_items: list[Item]) -> None:
    by_prompt: dict[str, list[Item]] = {}
    for item in test_items:
        by_prompt.setdefault(item.prompt, []).append(item)
    assert len(by_prompt) == 50
    for items in by_prompt.values():
        assert len({item.group_id for item in items}) == 1
        assert len({item.user_id for item in items}) == len(items) == 4


def test_a_user_has_one_taste_and_several_items(train_items: list[Item]) -> None:
    tastes = {user.user_id: set(user.taste) for user in world.users("train")}
    seen: dict[str | None, int] = {}
    for item in train_items:
        assert item.user_id is not None
        assert set(item.meta["wishes"]) <= tastes[item.user_id]
        seen[item.user_id] = seen.get(item.user_id, 0) + 1
    assert set(seen.values()) == {5}


def test_preferences_are_what_the_context_says(test_items: list[Item]) -> None:
    for item in test_items:
        assert 2 <= len(item.preferences) <= 4
        for statement in item.preferences:
            wordings = BY_STATEMENT[statement].wordings
            assert any(wording in item.context for wording in wordings)
            assert statement not in item.context


def test_no_wording_belongs_to_two_preferences() -> None:
    wordings = [wording for wish in PREFERENCES.values() for wording in wish.wordings]
    assert len(set(wordings)) == len(wordings)
    assert all(len(wish.wordings) >= 4 for wish in PREFERENCES.values())


def test_references_are_coherent_and_follow_their_own_preferences(
    test_items: list[Item], train_items: list[Item]
) -> None:
    means = []
    for item in [*test_items, *train_items]:
        assert item.reference is not None
        assert incoherence(read(item.reference), item.prompt, "") is None, item.reference
        ratings = [rate(item.prompt, item.reference, wish) for wish in item.preferences]
        assert min(ratings) >= 2
        means.append(sum(ratings) / len(ratings))
    assert min(means) >= 3
    # Good, not perfect: an answer can beat the reference, so that a strict win is possible.
    assert 4.5 < sum(means) / len(means) < 4.95


def test_references_fail_a_contradicting_profile(test_items: list[Item]) -> None:
    own, contrary = [], []
    for item in test_items:
        assert item.reference is not None
        for name in item.meta["wishes"]:
            own.append(rate(item.prompt, item.reference, PREFERENCES[name].statement))
            dimension = name.partition(":")[0]
            others = [other for other in PREFERENCES if other.startswith(dimension)]
            contrary += [
                rate(item.prompt, item.reference, PREFERENCES[other].statement)
                for other in others
                if other != name
            ]
    assert sum(own) / len(own) - sum(contrary) / len(contrary) > 3


def test_plain_advice_follows_no_preference_by_accident() -> None:
    """Only length can be met without trying; the chance level of everything else is zero."""
    for topic, kind, wording in (*questions("train"), *questions("test")):
        rng = item_rng(0, topic.slug, kind, str(wording))
        reading = read(compose(topic, kind, Style.of(), rng))
        for name, rule in RULES.items():
            if not name.startswith("length:"):
                assert rule(reading) < SATISFIED, (name, reading.text)


def test_short_forms_are_short_sentences() -> None:
    style = Style.of("length:short_sentences", "tone:formal", "audience:expert", "extra:reason")
    for topic, kind, wording in (*questions("train"), *questions("test")):
        text = compose(topic, kind, style, item_rng(0, topic.slug, kind, str(wording)))
        assert max(len(words_of(sentence)) for sentence in read(text).sentences) <= 10, text


@pytest.mark.parametrize(
    ("slug", "object_", "reference"),
    [
        ("clean-straw-bag", "a straw bag", "the straw bag"),
        ("choose-office-chair", "an office chair", "an office chair"),
        ("learn-modern-cooking", "modern cooking", "modern cooking"),
    ],
)
def test_articles(slug: str, object_: str, reference: str) -> None:
    topic = next(topic for topic in topics("test") if topic.slug == slug)
    assert (topic.object, topic.reference) == (object_, reference)
