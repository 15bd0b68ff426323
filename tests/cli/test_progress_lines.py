"""What is shown of long work where there is no terminal: lines."""

import pytest

from mipo_eval.cli import render
from mipo_eval.cli.render import Output


def test_lines_say_how_fast_it_goes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(render.time, "monotonic", lambda: now)
    output = Output(as_json=False)
    output.start("ratings", 200)
    output.advance(200)  # all of it was stored already
    output.finish()
    output.start("ratings", 200)
    now += 50
    output.advance(100)
    output.start("training", 4)
    now += 90
    output.advance(2)
    assert capsys.readouterr().err.splitlines() == [
        "ratings: 200/200 (0 s)",
        "ratings: 100/200 (2.0/s, 50 s, 50 s left)",
        "training: 2/4 (45 s each, 90 s, 90 s left)",
    ]
