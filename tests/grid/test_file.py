"""What a grid's file says: those that ship, what is set nearer to a method, and what is refused."""

import csv
from importlib import resources
from pathlib import Path

import pytest

from mipo_eval.cli import main
from mipo_eval.grid.file import MethodPart, read_grid, shipped_grids
from mipo_eval.grid.steps import rows_of, steps_of
from mipo_eval.reports.names import method_label
from mipo_eval.training.methods import find_method

DEMO = read_grid("demo")
SHIPPED = ", ".join(shipped_grids())


@pytest.mark.parametrize("method", DEMO.methods, ids=lambda method: method.name)
def test_every_row_of_the_demo_has_a_recipe(method: MethodPart) -> None:
    recipe = DEMO.recipe(DEMO.models[0], DEMO.suites[0], method)
    assert recipe.items.limit == 384
    assert recipe.optimization.learning_rate > 1e-6, "the paper's steps move nothing so small"


def test_the_demo_covers_methods_negatives_and_numbers() -> None:
    labels = [method.name for method in DEMO.methods]
    assert len(set(labels)) == len(labels) == 19
    assert labels[:2] == ["SFT", "MIPO (missing)"], "what `mipo-eval demo` trains"
    for negatives in ("missing", "random", "reshuffle"):
        for n in ("", " x 3", " x 5", " x 10"):
            assert f"MIPO ({negatives}{n})" in labels
    assert len(list(rows_of(DEMO))) == 59


@pytest.mark.parametrize(
    ("name", "table", "untrained"),
    [
        (
            "table1",
            "table1_personalization_win_rate",
            {"Default prompting", "Personalized prompting"},
        ),
        ("table2", "table2_math_mcq_accuracy", {"Base"}),
    ],
)
def test_the_papers_tables_are_covered(name: str, table: str, untrained: set[str]) -> None:
    """Every model and method that is printed is a row of the grid, and no other."""
    published = resources.files("mipo_eval.reports") / "published" / f"{table}.csv"
    printed = list(csv.DictReader(published.read_text().splitlines()))
    grid = read_grid(name)
    assert {model.name for model in grid.models} == {row["model"] for row in printed}
    methods = {method_label(find_method(method.method)[0]) for method in grid.methods}
    assert methods | untrained == {row["method"] for row in printed}
    assert [m.seeds for m in grid.models if m.name.endswith("7B-Instruct")] == [[0]]
    for method in grid.methods:
        for model, suite in ((m, s) for m in grid.models for s in grid.suites):
            assert grid.recipe(model, suite, method).items.limit is None
    rows = list(rows_of(grid))
    assert len(steps_of(grid, rows, {row.name: row.place for row in rows})) > 400


def test_what_is_set_nearer_to_the_method_counts() -> None:
    Path("g.yaml").write_text(
        "models: [{model: demo, set: {sft: {lr: 2}}}]\n"
        "suites: [{suite: demo, set: {sft: {lr: 3}}}]\n"
        "set: {all: {lr: 1, optimization.epochs: 5}}\n"
        "methods: [sft, {label: own, method: sft, set: {lr: 4}}, mipo]\n"
    )
    grid = read_grid("g.yaml")
    recipes = [grid.recipe(grid.models[0], grid.suites[0], method) for method in grid.methods]
    assert [recipe.optimization.learning_rate for recipe in recipes] == [3, 4, 1]
    assert {recipe.optimization.epochs for recipe in recipes} == {5}


GOOD = "models: [demo]\nsuites: [demo]\nmethods: [sft]\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: [demo]\n", "suites: Field required"),
        (GOOD + "sedes: 3\n", "sedes: Extra inputs are not permitted"),
        (GOOD + "seeds: 0\n", "seeds: Value should have at least 1 item"),
        (GOOD + "seeds: three\n", "seeds: Input should be a valid list"),
        (GOOD + "set: {dop: {lr: 1}}\n", "set: Value error, unknown dop; known: all, dpo, sft"),
        (GOOD + "prompting: [polite]\n", "prompting.0: Input should be 'personalized' or"),
        (GOOD + "evaluation: {limit: 0}\n", "evaluation.limit: Input should be greater than"),
        (
            GOOD + "evaluation: {decoding: heat=1}\n",
            "models.0: --decoding 'heat=1': write key=value; the keys are",
        ),
        (GOOD + "models: [demo]\n", "it has the key models twice"),
        (GOOD + "judges: [gpt-9]\n", "judges.0: unknown judge 'gpt-9'"),
        (GOOD + "pairwise: [checker]\nbaseline: best\n", "baseline: there is no row 'best'"),
        (GOOD + "pairwise: [checker]\nprompting: [default]\n", "baseline: add personalized"),
        (GOOD.replace("sft", "sfd"), "methods.0 (sfd): unknown method 'sfd'; known: dpo"),
        (
            GOOD.replace("sft", "sft, sft"),
            "methods: two are called 'sft': give one of them a label",
        ),
        (GOOD.replace("sft", "dpo"), "methods.0 (dpo): dpo trains on pairs of your own"),
        (
            GOOD.replace("[sft]", "[{method: sft, set: {optimization.epoch: 2}}]"),
            "methods.0 (sft): unknown optimization.epoch; known in optimization",
        ),
        (
            GOOD.replace("[sft]", "[{method: sft, sweep: lr=1}]"),
            "methods.0 (sft): --sweep 'lr=1': give two values or more",
        ),
        (GOOD.replace("suites: [demo]", "suites: [dome]"), "suites.0: unknown suite 'dome'"),
        (GOOD.replace("models: [demo]", "models: [./none]"), "models.0: there is no checkpoint at"),
        (
            GOOD.replace("models: [demo]", "models: ['openai:gpt-4.1']"),
            "models.0: openai:gpt-4.1 cannot be trained",
        ),
    ],
)
def test_a_wrong_file_is_told_with_its_place(
    text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("g.yaml").write_text(text)
    assert main(["grid", "g.yaml"]) == 2
    said = capsys.readouterr().err.strip()
    assert told in said
    assert "\n" not in said
    assert not Path("store.db").exists(), "nothing was started"


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (
            ["none"],
            f"unknown grid 'none': name a YAML file, or one of {SHIPPED}",
        ),
        (["none.yaml"], "the grid none.yaml cannot be read"),
        (["demo", "--dry-run", "--slurm"], "use only one of --dry-run, --commands and --slurm"),
        (["demo", "--commands", "--sbatch=--time=1"], "--sbatch needs --slurm"),
        (
            ["demo", "--commands", "--store", "postgresql+psycopg://me:secret@host/db"],
            "set MIPO_EVAL_STORE to the URL",
        ),
    ],
)
def test_what_cannot_be_asked_is_told(
    argv: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["grid", *argv]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert "secret" not in said
