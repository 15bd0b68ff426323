"""Opening the board's pages without a browser."""

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from mipo_eval import settings
from tests.waiting import HANG


def _script(first: str) -> None:
    from mipo_eval.dashboards.app import main

    main(first)


def open_page(
    monkeypatch: pytest.MonkeyPatch, store: Path | str, page: str, **choices: str | list[str]
) -> AppTest:
    """Draw a page of the board on a store, with the choices of its address."""
    monkeypatch.setenv(settings.STORE, str(store))
    test = AppTest.from_function(_script, kwargs={"first": page}, default_timeout=HANG)
    for name, value in choices.items():
        test.query_params[name] = value
    test.run()
    assert not test.exception, test.exception
    return test


def texts(test: AppTest) -> str:
    """Return all HTML of a page."""
    return "\n".join(element.body for element in test.html)
