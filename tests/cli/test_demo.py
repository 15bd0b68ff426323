"""`mipo-eval demo --rebuild`: the comparison on a base model that the recipe has just made."""

import json
import shutil
from pathlib import Path

import pytest

from mipo_eval.cli import main
from mipo_eval.demo import pretraining
from mipo_eval.demo.model import base_model, rebuilt_folder
from tests.demo.ship_base_model import RENDER


@pytest.mark.slow
def test_all_rows_stand_on_the_rebuilt_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[Path] = []

    def make(folder: Path, *_: object) -> None:  # in place of minutes of training
        shutil.copytree(base_model(), folder)
        made.append(folder)

    monkeypatch.setattr(pretraining, "pretrain", make)
    argv = ["demo", "--rebuild", "--items", "32", "--limit", "8", "--json"]
    documents = []
    for _ in range(2):
        assert main(argv) == 0
        documents.append(json.loads(capsys.readouterr().out))
    assert documents[0] == documents[1]
    assert len(made) == 1
    rows = {row["method"]: row["runs"][0] for row in documents[0]["methods"]}
    for name in ("default prompting", "personalized prompting"):
        assert rows[name]["model"] == str(rebuilt_folder(RENDER))
        assert rows[name]["n_items"] == 8
    assert rows["SFT"]["model"] != rows["MIPO (missing)"]["model"]
