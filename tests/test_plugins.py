"""What other people add: the examples that are shown, packages by entry point, and broken ones."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mipo_eval import plugins
from mipo_eval.cli import main
from mipo_eval.errors import ConfigError
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.store.trainings import list_trainings

EXAMPLES = Path(__file__).parents[1] / "examples" / "plugins"
QUICK = ("--set", "items.limit=4", "--set", "lr=1e-3")


def example(kind: str) -> tuple[str, str]:
    return "--plugin", str(EXAMPLES / f"{kind}.py")


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path where packages are installed by writing their files."""
    folder = Path("site")
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder.resolve()))
    plugins._installed.cache_clear()
    yield folder
    plugins._installed.cache_clear()


def install(folder: Path, name: str, code: str, points: str) -> None:
    about = folder / f"{name}-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(points)
    (folder / f"{name}.py").write_text(code)


def own(text: str, name: str = "own.py") -> list[str]:
    Path(name).write_text(text)
    return ["--plugin", name]


def listed(capsys: pytest.CaptureFixture[str], *flags: str) -> list[dict[str, str | None]]:
    assert main(["plugins", "--json", *flags]) == 0
    found: list[dict[str, str | None]] = json.loads(capsys.readouterr().out)["plugins"]
    return found


def test_every_kind_has_an_example_of_twenty_lines_that_is_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = [flag for kind in plugins.KINDS for flag in example(kind)]
    found = listed(capsys, *flags)
    assert [one["kind"] for one in found] == list(plugins.KINDS)
    assert all(one["about"] and not one["broken"] for one in found)
    for kind in plugins.KINDS:
        code = (EXAMPLES / f"{kind}.py").read_text().split('"""', 2)[2]
        assert len([line for line in code.splitlines() if line.strip()]) <= 24


def test_a_plugin_is_known_only_to_the_command_that_names_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert listed(capsys, *example("suites"))
    assert listed(capsys) == []


def test_suite_and_backend_of_files_make_scores(capsys: pytest.CaptureFixture[str]) -> None:
    judged = ("--judge", "by-length:500", *example("backends"))
    asked = ("--model", "demo", "--suite", "neighbours", "--decoding", "max_tokens=8")
    assert main([*asked, *judged, *example("suites"), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    (rating,) = [score for score in scores if score["metric"] == "rating_mean"]
    assert (rating["value"], rating["n"]) == (5.0, 2)
    assert "|judge:by-length:500|" in rating["signature"]
    assert main([*asked, "--judge", "by-length:500"]) == 2  # without the files it is not known
    assert "neighbours" in capsys.readouterr().err


def test_a_training_uses_own_negatives_and_an_own_loss(capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "mipo", "--model", "demo", "--suite", "demo", *QUICK]
    mine = ["--negatives", "same-topic", "--set", "settings.loss=simpo"]
    flags = [*mine, *example("negatives"), *example("losses")]
    assert main([*train, "--out", "usual"]) == 0
    assert main([*train, "--out", "own", *flags]) == 0
    capsys.readouterr()
    with Store.open("store.db", mode="read") as store:
        usual, ours = sorted(list_trainings(store), key=lambda one: one.created_at)
    assert (usual.method, ours.method) == ("mipo-missing", "mipo-same-topic")
    assert ours.recipe["settings"]["loss"] == "simpo"
    assert ours.status == "done"
    one, other = (Path(name, "model.safetensors").read_bytes() for name in ("own", "usual"))
    assert one != other


def test_a_training_is_named_by_the_code_of_its_plugins() -> None:
    from mipo_eval.training.identity import deciding
    from mipo_eval.training.recipes import load_recipe

    def named(code: str) -> object:
        own(code)
        with plugins.loaded([Path("own.py")]):
            return deciding(load_recipe("mipo-missing", overrides=["settings.loss=flat"]))

    code = "def f(pairs): return pairs.policy_chosen * {}\nPLUGINS = {{'losses': {{'flat': f}}}}"
    assert named(code.format(0)) == named(code.format(0))
    assert named(code.format(0)) != named(code.format(1))
    assert "plugins" not in deciding(load_recipe("mipo-missing"))


def test_an_own_reward_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    how = ("--algorithm", "grpo", "--set", "settings.reward=own-words")
    few = ("--set", "settings.max_new_tokens=6", "--set", "settings.generations=2")
    flags = (*how, *few, *QUICK, *example("rewards"))
    command = ["train", "ppo-mi", "--model", "demo", "--suite", "demo", "--out", "own", *flags]
    assert main([*command, "--set", "optimization.batch_size=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "done"


def test_a_package_registers_by_entry_point(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = '''def two(split, folder):
    """Two questions."""
    yield {"item_id": split, "prompt": "Tea?"}
'''
    install(package, "tea_suites", code, "[mipo_eval.suites]\ntea = tea_suites:two\n")
    (found,) = listed(capsys)
    assert found == {
        "kind": "suites",
        "name": "tea",
        "origin": "tea_suites 1.2",
        "about": "Two questions.",
        "broken": None,
    }
    from mipo_eval.tasks.sources import load_source

    assert [item.item_id for item in load_source("tea", split="train")] == ["train"]


def test_a_broken_package_is_one_line_and_hinders_nobody(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(package, "bad_one", "import nowhere_at_all\n", "[mipo_eval.losses]\nbad = bad_one:f\n")
    install(package, "odd_two", "f = 3\n", "[mipo_eval.losses]\nodd = odd_two:f\n")
    assert main(["plugins"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "plug-in bad (losses) of bad_one 1.2: it cannot be imported: ModuleNotFound" in shown
    assert "plug-in odd (losses) of odd_two 1.2: it is int, not a function" in shown
    assert "bad_one" not in sys.modules
    assert main(["train", "mipo", "--print-config"]) == 0


def test_two_packages_with_one_name_are_told(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("first", "second"):
        install(package, name, "def f(*_): ...\n", f"[mipo_eval.rewards]\nnice = {name}:f\n")
    told = "rewards: nice is registered by first 1.2 and second 1.2: leave one of them out"
    assert [one["broken"] for one in listed(capsys)] == [told, told]
    with pytest.raises(ConfigError, match="registered by first"):
        plugins.find_plugin("rewards", "nice")


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def f(:", "cannot be run: SyntaxError: "),
        ("1 / 0", "cannot be run: ZeroDivisionError: division by zero (own.py, line 1)"),
        ("", "registers nothing"),
        ("PLUGINS = {'loss': {}}", "PLUGINS has 'loss'; it maps kinds (negatives, losses"),
        ("PLUGINS = {'losses': [1]}", "PLUGINS has 'losses'"),
    ],
)
def test_a_file_that_is_none_is_told_in_one_line(
    code: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plugins", *own(code)]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert said.count("\n") == 1
    assert "own.py" in said


def test_a_file_that_is_not_there_or_no_python_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.txt").write_text("PLUGINS = {}")
    for name, told in (("none.py", "cannot be read"), ("own.txt", "ends in .py")):
        assert main(["plugins", "--plugin", name]) == 2
        assert told in capsys.readouterr().err


def test_a_name_of_ours_stays_ours(capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = listed(capsys, *own("PLUGINS = {'losses': {'dpo': print}}"))
    assert "taken by one of ours" in (found["broken"] or "")


@pytest.mark.parametrize(
    ("kind", "body", "told"),
    [
        ("suites", "raise KeyError('x')", "plug-in f (suites) of file own.py: it failed: KeyError"),
        ("suites", "return 3", "it failed: TypeError"),
        ("suites", "return []", "contains no items"),
        ("suites", "return [{'item_id': 'a'}]", "field prompt: is missing"),
        ("backends", "return 3", "it made int, which is not a backend"),
        ("backends", "raise OSError('no route')", "it failed: OSError: no route"),
    ],
)
def test_what_a_plugin_does_wrong_is_one_line(
    kind: str, body: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = "model" if kind == "backends" else "split, folder"
    flags = own(f"def f({given}):\n    {body}\nPLUGINS = {{'{kind}': {{'f': f}}}}\n")
    named = ("--suite", "f") if kind == "suites" else ("--suite", "demo", "--judge", "f:x")
    assert main(["--model", "demo", *named, *flags]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert told in said


@pytest.mark.parametrize("body", ["return []", "return [item, 3]", "return None", "return 1 / 0"])
def test_negatives_that_are_none_are_told(body: str) -> None:
    from mipo_eval.training.pairs import plan_draws
    from mipo_eval.training.recipes import PairSettings

    code = f"def f(item, items, n, rng):\n    {body}\nPLUGINS = {{'negatives': {{'f': f}}}}\n"
    own(code)
    item = Item(item_id="a", prompt="Tea?", context="I am nine.")
    with (
        plugins.loaded([Path("own.py")]),
        pytest.raises(ConfigError, match=r"plug-in f \(negatives\) of file own.py: "),
    ):
        list(plan_draws([item], PairSettings(negatives="f", n_negatives=2)))


@pytest.mark.parametrize("body", ["return [1]", "return ['x', 2]", "return 3", "return [1, 'nan']"])
def test_rewards_that_are_none_are_told(body: str) -> None:
    from mipo_eval.training.rewards import Completion, own_rewards
    from tests.training.jobs import example as made

    own(f"def f(items, texts):\n    {body}\nPLUGINS = {{'rewards': {{'f': f}}}}\n")
    written = [Completion(example=made("Tea?", "I am nine."), text=t, tokens=(1,)) for t in "ab"]
    with plugins.loaded([Path("own.py")]):
        plugin = plugins.find_plugin("rewards", "f")
        assert plugin is not None
        with pytest.raises(ConfigError, match="not a finite number or None for each of 2"):
            own_rewards(plugin, written)


def test_a_cut_response_has_no_reward_of_a_plugin() -> None:
    from mipo_eval.training.rewards import Completion, own_rewards
    from tests.training.jobs import example as made

    own("def f(items, texts):\n    return [len(t) for t in texts]\nPLUGINS = {'rewards': {'f': f}}")
    texts = ("abc", None, "a")
    written = [Completion(example=made("Tea?", "Nine."), text=t, tokens=(1,)) for t in texts]
    with plugins.loaded([Path("own.py")]):
        plugin = plugins.find_plugin("rewards", "f")
        assert plugin is not None
        assert own_rewards(plugin, written) == [3.0, None, 1.0]


def test_an_own_loss_sees_every_pair_once() -> None:
    """DPO written as a plug-in is DPO, also where prompts have different numbers of negatives."""
    import torch

    from mipo_eval.training.losses import dpo_measures, own_losses

    own(
        "from torch.nn.functional import logsigmoid\n"
        "def f(p):\n"
        "    assert (p.tokens_chosen == 7).all() and p.tokens_rejected.tolist() == [5, 6, 5]\n"
        "    return -logsigmoid(p.beta * (p.policy_chosen - p.policy_rejected\n"
        "        - p.reference_chosen + p.reference_rejected))\n"
        "PLUGINS = {'losses': {'f': f}}\n"
    )
    policy = torch.tensor([[-3.0, -4.0, -9.0], [-2.0, -1.0, 0.0]], requires_grad=True)
    reference = torch.tensor([[-2.0, -4.5, -7.0], [-2.5, -1.0, 0.0]])
    present = torch.tensor([[True, True, True], [True, True, False]])
    lengths = torch.tensor([[7, 5, 6], [7, 5, 0]])
    batch = {"reference": reference, "present": present, "lengths": lengths}
    with plugins.loaded([Path("own.py")]):
        plugin = plugins.find_plugin("losses", "f")
        assert plugin is not None
        losses = own_losses(plugin, policy, batch, beta=0.3)
    ours = dpo_measures(policy, reference, present, beta=0.3, losses=losses).loss
    usual = dpo_measures(policy, reference, present, beta=0.3).loss
    assert ours.item() == pytest.approx(usual.item())
    (gradient,) = torch.autograd.grad(ours, policy, retain_graph=True)
    torch.testing.assert_close(gradient, torch.autograd.grad(usual, policy)[0])
