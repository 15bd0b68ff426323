"""torch gets as many threads as help: found by trying, unless the user has said."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mipo_eval import threads
from mipo_eval.models.lm_eval import Decoding, ModelOptions, load_model
from mipo_eval.models.spec import parse_model


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS")
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("cores", "helpful", "wanted"),
    [(1, 64, 1), (2, 1, 1), (2, 2, 2), (8, 4, 4), (8, 8, 8), (6, 64, 6)],
)
def test_doubled_as_long_as_it_helps(
    cores: int, helpful: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "_most_threads", lambda: cores)
    monkeypatch.setattr(threads, "_better", lambda more, *_, **__: more <= helpful)
    assert threads.choose_threads(64, 32) == wanted
    assert torch.get_num_threads() == wanted


def test_a_real_trial_changes_nothing_but_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_most_threads", lambda: 2)
    stream = torch.random.get_rng_state()
    assert threads.choose_threads(64, 32) in {1, 2}
    assert torch.equal(torch.random.get_rng_state(), stream)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("said", "tried"), [("1", False), ("", True), (None, True)])
def test_what_the_user_says_holds(
    said: str | None, tried: bool, monkeypatch: pytest.MonkeyPatch, tiny_model: Path
) -> None:
    trials: list[dict[str, int]] = []

    def better(_more: int, _fewer: int, **sizes: int) -> bool:
        trials.append(sizes)
        return False

    monkeypatch.setattr(threads, "_most_threads", lambda: 2)
    monkeypatch.setattr(threads, "_better", better)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    load_model(parse_model(str(tiny_model)), ModelOptions(batch_size=8), Decoding()).close()
    assert trials == ([{"rows": 8, "width": 32}] if tried else [])


def test_a_model_elsewhere_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: int) -> None:
        raise AssertionError("tried")

    class Elsewhere:
        device = torch.device("meta")
        config: Any = None

    monkeypatch.setattr(threads, "choose_threads", never)
    threads.fit_threads(Elsewhere(), rows=8)
