"""Judges are found by what people call them."""

from pathlib import Path
from typing import Any

import pytest

from mipo_eval.errors import ConfigError
from mipo_eval.store import Store
from mipo_eval.store.judges import find_judge, put_judge

ASKED: dict[str, Any] = {"protocol": "rubric", "spec": "openai:qwen", "prompt": "aa"}


@pytest.mark.parametrize("name", ["qwen", "openai:qwen"])
def test_of_judges_asked_alike_the_newest_parsers_is_meant(tmp_path: Path, name: str) -> None:
    with Store.open(str(tmp_path / "s.db")) as store:
        for key, parser in (("c", "2"), ("a", "1"), ("b", "10")):
            put_judge(store, key * 32, "qwen", {**ASKED, "parser": parser, "judge_key": key * 32})
        assert find_judge(store, name).key == "b" * 32
        assert find_judge(store, "aaaa").key == "a" * 32


def test_judges_asked_differently_are_not_guessed_between(tmp_path: Path) -> None:
    with Store.open(str(tmp_path / "s.db")) as store:
        put_judge(store, "a" * 32, "qwen", {**ASKED, "parser": "1"})
        put_judge(store, "b" * 32, "qwen", {**ASKED, "prompt": "bb", "parser": "2"})
        with pytest.raises(ConfigError, match=r"several judges are called .*; name one by its key"):
            find_judge(store, "qwen")
