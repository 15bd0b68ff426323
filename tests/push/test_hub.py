"""Results in a model card and samples in a data set, by the real client and a hub of our own."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from mipo_eval.cli import main
from tests.push.conftest import RUN
from tests.reports.stores import Served
from tests.servers.hub_of_mine import Hub

MINE, SAMPLES = "models/me/tea", "datasets/me/tea-samples"
OTHER = """---
license: mit
tags:
- tea
model-index:
- name: tea
  results:
  - task: {type: text-generation}
    dataset: {name: Cups, type: cups}
    metrics: [{type: accuracy, value: 0.5}]
---

# My tea model

It knows tea.
"""
Push = Callable[..., int]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that the client speaks to, with files kept in the test's own folder."""
    from huggingface_hub import constants

    mine = Hub()
    with mine.serve() as server:
        for name, value in {
            "ENDPOINT": server.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.address
            + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_CACHE": str(Path("hub").absolute()),
            "HF_HUB_DISABLE_XET": True,
            "HF_TOKEN_PATH": str(Path("token").absolute()),
        }.items():
            monkeypatch.setattr(constants, name, value)
        yield mine


def _card(hub: Hub) -> tuple[dict[str, Any], str]:
    _, head, text = hub.files[MINE]["README.md"].decode().split("---\n", 2)
    return yaml.safe_load(head), text


def _metrics(head: dict[str, Any]) -> dict[str, dict[str, Any]]:
    (index,) = head["model-index"]
    return {
        f"{result['dataset']['type']}/{metric['type']}": metric
        for result in index["results"]
        for metric in result["metrics"]
    }


def test_results_stand_in_the_card_of_the_checkpoint(
    trained: Served, hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("out/README.md").write_text("---\ntags: [mipo-eval, mipo]\n---\n\n# MIPO of a model\n")
    secret = "tea.jsonl"
    argv = ["push", RUN[:8], "--to", "hub", "--into", "me/tea", "--json"]
    assert main(argv) == 0
    assert json.loads(capsys.readouterr().out)["sent"] == [
        f"{hub._address}/me/tea/commit/{hub.head(MINE)}"
    ]
    head, text = _card(hub)
    assert head["tags"] == ["mipo-eval", "mipo"]
    assert "# MIPO of a model" in text
    assert "| tea |" in text
    found = _metrics(head)["tea/win_rate_tie_inclusive"]
    assert found["value"] == pytest.approx(83.33, abs=0.01)
    assert found["name"].startswith("win rate")
    told = found["args"]
    assert (told["run"], told["n"], told["prompting"]) == (RUN, 24, "personalized")
    assert told["ci95"][0] < found["value"] < told["ci95"][1]
    assert "ties:win" in told["signature"]
    assert hub.private == {MINE: True}
    assert main(argv) == 0  # the same once more
    assert hub.commits in ([MINE, MINE], [MINE])
    assert _card(hub) == (head, text)
    assert secret not in text


def test_what_others_wrote_into_a_card_stays(
    trained: Served, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.files[MINE] = {"README.md": OTHER.encode()}
    ids = [RUN[:8], "--metric", "self_bleu_4"]
    assert main(["push", *ids, "--to", "hub", "--into", "me/tea"]) == 0
    head, text = _card(hub)
    assert (head["license"], head["tags"]) == ("mit", ["tea"])
    assert "It knows tea." in text
    assert set(_metrics(head)) == {"cups/accuracy", "tea/self_bleu_4"}
    assert MINE not in hub.private, "it was there"


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the client's own
def test_samples_become_a_private_data_set(
    trained: Served, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_TOKEN", "Reference 3: tea is")
    argv = ["push", trained.id("base"), trained.id("base", "default"), "--to", "hub"]
    assert main([*argv, "--into", "me/tea", "--samples"]) == 0
    files = hub.files[SAMPLES]
    assert hub.private[SAMPLES]
    assert b"Responses of me/tea" in files["README.md"]
    tables = [pq.read_table(io.BytesIO(files[name])) for name in files if "parquet" in name]
    assert [table.num_rows for table in tables] == [24, 24]
    assert tables[0].schema == tables[1].schema
    rows = [row for table in tables for row in table.to_pylist()]
    assert any("base on 5" in row["response"] for row in rows)
    assert {said["credit"] for row in rows for said in row["said"]} <= {0.0, 0.5, 1.0, None}
    assert not any("Reference 3: tea is" in str(row) for row in rows)
    assert any("<key> a drink" in row["reference"] for row in rows)


@contextmanager
def _one_line(capsys: pytest.CaptureFixture[str], said: str) -> Iterator[None]:
    capsys.readouterr()
    yield
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1, error


def test_what_cannot_be_sent_is_one_line(
    trained: Served, hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    to = ["--to", "hub", "--into"]
    two = [trained.id("base"), trained.id("sft-seed0")]
    with _one_line(capsys, "one repository holds one model, these runs are of 2"):
        assert main(["push", *two, *to, "me/tea"]) == 2
    with _one_line(capsys, "--to hub needs --into OWNER/NAME"):
        assert main(["push", two[0], "--to", "hub"]) == 2
    assert hub.files == {}
    hub.token = "of-somebody-else"
    with _one_line(capsys, "log in with `hf auth login` or HF_TOKEN"):
        assert main(["push", two[0], *to, "me/tea"]) == 2
    hub.token = None
    hub.files[MINE] = {"README.md": b"---\ntags: [a\n---\n"}
    with _one_line(capsys, "the head of me/tea's README.md cannot be read"):
        assert main(["push", two[0], *to, "me/tea"]) == 2
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with _one_line(capsys, "the hub did not take me/tea"):
        assert main(["push", two[0], *to, "me/tea"]) == 2
