"""Runs in trackers, by their real clients: offline, in a local store, in event files."""

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.cli import main
from mipo_eval.cli.push import TARGETS
from mipo_eval.push.send import TARGETS as SENDERS
from tests.push.conftest import CURVE, RUN
from tests.reports.stores import Served

SECRET = "Reference 3: tea is a drink"
"""Stands in a sample; the environment says that it is a secret."""
WIN = "tea/win_rate_tie_inclusive"

Push = Callable[..., dict[str, Any]]


@pytest.fixture
def push(
    trained: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Push:
    """Send the run as a user does, with a password on the command line."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(Path("trackio").absolute()))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file:{Path('mlruns').absolute()}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("PLANTED_TOKEN", SECRET)
    monkeypatch.setattr("sys.argv", ["mipo-eval", "push", "--api-key", "hunter2-of-the-command"])

    def run(target: str, *words: str) -> dict[str, Any]:
        try:
            importlib.import_module(target)
        except ModuleNotFoundError:
            pytest.skip(f"{target} is not installed: pip install 'mipo-eval[push]'")
        assert main(["push", RUN[:8], "--to", target, *words, "--json"]) == 0
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        if target == "wandb":  # its process writes until it ends, by the settings it began with
            importlib.import_module(target).teardown()
        assert _holding_secrets(Path()) == []
        return told

    return run


def _holding_secrets(folder: Path) -> list[Path]:
    return [
        file
        for file in folder.rglob("*")
        if file.is_file() and file.name not in {"tea.jsonl", "served.db"}
        if any(s in file.read_bytes() for s in (SECRET.encode(), b"hunter2"))
    ]


def test_the_command_knows_every_target() -> None:
    assert set(TARGETS) == set(SENDERS)


def test_tensorboard_reads_what_was_written(push: Push) -> None:
    told = push("tensorboard", "--into", "logs", "--samples")
    push("tensorboard", "--into", "logs", "--samples")  # takes the place of the first
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = map(Path, told["sent"])
    assert [file.parent for file in Path("logs").rglob("*") if file.is_file()] == [folder]
    read = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("training/loss")] == [
        (point.step, pytest.approx(point.value)) for point in CURVE
    ]
    assert [(e.step, e.value) for e in read.Scalars(WIN)] == [(20, pytest.approx(83.33, abs=0.01))]
    assert read.Images("plots/win_rate_tie_inclusive")[0].encoded_image_string[1:4] == b"PNG"
    texts = {
        tag: read.Tensors(tag)[0].tensor_proto.string_val[0].decode()
        for tag in ("scores", "about", "samples")
    }
    assert "**" in texts["scores"] or "| tea |" in texts["scores"]
    assert '"method": ' not in texts["about"]
    assert 'method: "MIPO"' in texts["about"]
    assert "quality 4: mipo-seed0" in texts["samples"]


def test_mlflow_has_one_run_however_often_it_is_sent(push: Push) -> None:
    push("mlflow", "--samples")
    push("mlflow", "--samples")
    from mlflow import MlflowClient

    client = MlflowClient()
    found = client.get_experiment_by_name("mipo-eval")
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    assert run.data.params["method"] == "MIPO"
    assert run.data.metrics[WIN] == pytest.approx(83.33, abs=0.01)
    for name, points in (("training/loss", 3), (WIN, 1)):
        assert len(client.get_metric_history(run.info.run_id, name)) == points
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {
        "scores.csv",
        "samples.csv",
        "report.html",
        "scores.md",
        "plots",
    }


def test_mlflow_without_a_place_for_its_runs_is_one_line(
    push: Push, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    push("mlflow")
    for uri, said in (
        ("http://127.0.0.1:9", "mlflow did not take the run: "),
        (f"sqlite:///{Path('m.db').absolute()}", "name one in MLFLOW_TRACKING_URI"),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        assert main(["push", RUN[:8], "--to", "mlflow"]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1


def test_trackio_has_one_run_however_often_it_is_sent(push: Push) -> None:
    told = push("trackio", "--into", "tea", "--samples")
    push("trackio", "--into", "tea", "--samples")
    from trackio.sqlite_storage import SQLiteStorage

    (name,) = SQLiteStorage.get_runs("tea")
    assert told["sent"] == [f"project tea, run {name}"]
    logs = SQLiteStorage.get_logs("tea", name)
    assert [line["training/loss"] for line in logs if "training/loss" in line] == [
        pytest.approx(point.value) for point in CURVE
    ]
    shown = [line for line in logs if WIN in line]
    assert shown[-1]["scores"]["_value"][0]["run_id"] == RUN
    assert len(shown[-1]["samples"]["_value"]) == 24
    assert SECRET not in repr(logs)


def test_wandb_writes_its_offline_run(push: Push) -> None:
    told = push("wandb", "--into", "tea", "--samples")
    from wandb.proto.wandb_internal_pb2 import Record

    assert "wandb sync" in told["sent"][0]
    (file,) = Path("wandb").rglob("*.wandb")
    records = [Record.FromString(data) for data in _stored(file.read_bytes())]
    (run,) = [record.run for record in records if record.HasField("run")][:1]
    assert (run.project, run.run_id) == ("tea", RUN)
    assert {item.key: item.value_json for item in run.config.update}["method"] == '"MIPO"'
    history = [
        {
            (item.key or "/".join(item.nested_key)): json.loads(item.value_json)
            for item in r.history.item
        }
        for r in records
        if r.HasField("history")
    ]
    losses = [row["training/loss"] for row in history if "training/loss" in row]
    assert losses == [pytest.approx(point.value) for point in CURVE]
    assert history[-1][WIN] == pytest.approx(83.33, abs=0.01)
    assert history[-1]["scores/_type"] == "table-file"
    assert {file.parts[-1].split("_")[0] for file in Path("wandb").rglob("media/table/*")} == {
        "scores",
        "samples",
    }


def _stored(log: bytes) -> Iterator[bytes]:
    """Yield the records of a LevelDB log, which follows the first seven bytes of wandb's file."""
    place, record = 7, b""
    while place < len(log):
        left = 32_768 - place % 32_768
        if left < 7:
            place += left
            continue
        end = place + 7 + int.from_bytes(log[place + 4 : place + 6], "little")
        kind = log[place + 6]  # whole, first, middle, last
        record = log[place + 7 : end] if kind in {1, 2} else record + log[place + 7 : end]
        if kind in {1, 4}:
            yield record
        place = end


def test_wandb_without_a_key_is_one_line(
    push: Push, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    push("wandb")
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("HOME", str(Path().absolute()))
    assert main(["push", RUN[:8], "--to", "wandb"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("mipo-eval: wandb has no key: log in with `wandb login`")
    assert error.count("\n") == 1


def test_a_client_that_is_missing_is_named(
    trained: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    assert main(["push", RUN[:8], "--to", "wandb"]) == 2
    error = capsys.readouterr().err
    assert "--to wandb needs wandb, which is not installed: pip install 'mipo-eval[push]'" in error
