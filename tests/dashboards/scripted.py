"""A store with something on every page of the board, made of scripted rows in about a second.

A base model with and without context and two trained checkpoints on one suite; one run by
likelihood; two trainings with curves; a validation with attacks; controls; choices in both orders.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from mipo_eval.evaluation.score import Numbers, ending_scores, likelihood_scores
from mipo_eval.keys import digest
from mipo_eval.metrics.diversity import FIXED_SIZE, diversity_scores
from mipo_eval.metrics.self_bleu import self_bleu_score
from mipo_eval.records import Item, Rating, Response, Run, Score, text_key
from mipo_eval.signature import NOTHING, Signature, join, short
from mipo_eval.store import Store
from mipo_eval.store.items import put_list
from mipo_eval.store.judges import Validation, list_judges, put_judge, put_validation
from mipo_eval.store.responses import Scorable, answered, put_generation, put_responses, scorable
from mipo_eval.store.runs import put_run, put_scores
from mipo_eval.store.tables import calls
from mipo_eval.store.trainings import CurvePoint, Training, put_curve, put_training
from mipo_eval.store.verdicts import put_choices, put_ratings
from mipo_eval.verdict import Choice

DAY = datetime(2026, 11, 1, 12, tzinfo=UTC)
DECODING = {"max_tokens": 256, "temperature": 0.0, "top_p": 1.0, "seed": 0}
RATER, CHOOSER = digest("rater"), digest("chooser")
MODELS = (
    ("base", "default", 1),
    ("base", "personalized", 2),
    ("out/mipo-missing", "personalized", 4),
    ("out/mipo-random", "personalized", 3),
)
"""Model, prompting, and how good it is."""
N_ITEMS = 96
CANARY = "http://canary.invalid"
"""Whoever asks for it has fetched what a text named."""
HOSTILE = (
    "<script>window.canary = 1; document.title = 'owned'</script>",
    f'<img src="{CANARY}/i.png" onerror="window.canary = 1"><svg onload="window.canary = 1">',
    f"![i]({CANARY}/m.png) [l](javascript:window.canary=1) [r][x] <{CANARY}/a> \n\n[x]: {CANARY}/r",
    f'<iframe src="{CANARY}/f"></iframe><style>@import "{CANARY}/s"; * {{ display: none }}</style>',
    "\x1b[31mred\x1b[0m \x1b]0;owned\x07 bell",
    "\u202eright to left\u202c \u2066isolated\u2069 \u200bzero width",
    "NUL \x00 byte",
    r"$$\href{javascript:window.canary=1}{x} \frac{1}{2}$$ $\includegraphics{x}$",
    '```mermaid\ngraph TD; A["<img src=x onerror=window.canary=1>"] --> B\n```',
    ":material/home: :red[red] :smile: {{7*7}} ${7*7} | a | b |\n|---|---|\n# Heading\n- list",
    "long " + "A" * 1_000_000,
)
"""What a model, a file or a user may have written."""
_WORDS = ["tea", "water", "leaf", "cup", "hot", "cold", "slow", "quick", "bitter", "sweet", "green"]


def items(count: int = N_ITEMS) -> list[Item]:
    """Two users a prompt, two preferences each."""
    return [
        Item(
            item_id=f"tea-{n}",
            prompt=f"How do I make tea number {n // 2}?",
            context="I am nine." if n % 2 else "I have no time.",
            preferences=("Easy words.", "Short."),
            reference=f"Reference {n}: pour water on leaves.",
            user_id=f"user-{n % 2}",
            group_id=f"tea-{n // 2}",
        )
        for n in range(count)
    ]


def _text(model: str, prompting: str, skill: int, number: int) -> str:
    # Without a context every user of a prompt gets the same answer.
    seed = number // 2 if prompting == "default" else number
    rng = random.Random(f"{model} {seed}")
    return f"{model}: " + " ".join(rng.choices(_WORDS, k=8 + 4 * skill))


def make_store(path: Path) -> Path:
    """Fill a new store."""
    with Store.open(str(path)) as store:
        fill_store(store)
    return path


def fill_store(store: Store) -> None:
    """Put everything into a store."""
    put_judge(store, RATER, "rater", {"judge_key": short(RATER), "protocol": "rubric"})
    put_judge(store, CHOOSER, "chooser", {"judge_key": short(CHOOSER), "protocol": "pairwise"})
    of = items()
    runs = [_judged_run(store, of, "tea", place) for place in range(len(MODELS))]
    _choices(store, runs)
    _by_likelihood(store)
    for seed, negatives in ((0, "missing"), (1, "random")):
        _training(store, seed, negatives)
    _validation(store)
    _calls(store)


def make_situations(path: Path) -> Path:
    """Fill a new store with a suite for each way a leaderboard can come out.

    Suites: clear (one wins), none (nobody does), one (a single method), seeds (of one method).
    """
    of = items()
    trained, base = "out/mipo-missing", "base"
    runs = [("clear", base, 0, 0), ("clear", trained, 9, 0), ("one", trained, 9, 0)]
    runs += [("none", base, 4, 0), ("none", trained, 3, 0)]
    runs += [("seeds", base, 0, 0), *(("seeds", trained, 9, seed) for seed in range(3))]
    with Store.open(str(path)) as store:
        put_judge(store, RATER, "rater", {"judge_key": short(RATER), "protocol": "rubric"})
        _training(store, 0, "missing")
        for suite, model, place, seed in runs:
            own = [
                item.model_copy(
                    update={"item_id": f"{suite}-{item.item_id}", "user_id": f"user-{number % 24}"}
                )
                for number, item in enumerate(of)
            ]
            list_key, _ = put_list(store, [(suite, own)])
            texts = [f"{suite} {model} {seed} {number}" for number in range(len(own))]
            run_of(store, (model, "personalized", suite), (list_key, own, texts), place, seed)
    return path


def make_hostile_store(path: Path) -> Path:
    """Fill a new store in which every name and text wants to be run, fetched or laid out."""
    of = [
        Item(
            item_id=f"{n} {text[:40]}",
            prompt=text[:5_000],
            context=text[:5_000],
            preferences=(text[:2_000],),
            reference=f"reference {text}",
        )
        for n, text in enumerate(HOSTILE)
    ]
    with Store.open(str(path)) as store:
        put_judge(store, RATER, HOSTILE[1], {"judge_key": short(RATER), "protocol": "rubric"})
        list_key, _ = put_list(store, [(HOSTILE[0][:60], of)])
        for place, model in enumerate(HOSTILE[1:3]):
            texts = [f"{place} {text}" for text in HOSTILE]
            run_of(store, (model, "personalized", "s"), (list_key, of, texts), place)
    return path


def _judged_run(store: Store, of: list[Item], task: str, place: int) -> Run:
    model, prompting, skill = MODELS[place]
    list_key, _ = put_list(store, [(task, of)])
    texts = [_text(model, prompting, skill, number) for number in range(len(of))]
    return run_of(store, (model, prompting, task), (list_key, of, texts), place)


def add_base_model(store: Store, name: str) -> None:
    """Add a second base model to a store, with and without context."""
    of = items()
    list_key, _ = put_list(store, [("tea", of)])
    for place, prompting in ((0, "default"), (3, "personalized")):
        texts = [_text(name, prompting, 2, number) for number in range(len(of))]
        run_of(store, (name, prompting, "tea"), (list_key, of, texts), place)


def run_of(
    store: Store,
    named: tuple[str, str, str],
    answers: tuple[str, list[Item], list[str]],
    place: int,
    seed: int = 0,
) -> Run:
    """Store a run with ratings and scores; the run is better the later it comes."""
    (model, prompting, suite), (list_key, of, texts) = named, answers
    key = digest([model, prompting, *([seed] if seed else [])])
    put_generation(store, key, {"model": {"engine": "hf"}, "decoding": DECODING})
    put_responses(store, key, map(_response, of, texts))
    rng = random.Random(place)
    ratings = []
    for item, text in zip(of, texts, strict=True):
        for aspect in range(len(item.preferences)):
            good = min(5, place + 2)
            ratings.append(_rating(item, text, aspect, rng.choice((good, good, 3, 5, 1))))
            ratings.append(_rating(item, item.reference or "", aspect, 3))
    put_ratings(store, ratings)
    run = replace(_run(model, suite, prompting, (list_key, len(of), key), place), seed=seed)
    put_run(store, run)
    rows = list(scorable(store, list_key, key))
    by = join(judge="rater", judge_key=short(RATER), protocol="rubric")
    task = rows[0].task
    (rater,) = (judge for judge in list_judges(store) if judge.key == RATER)
    judged = Numbers(store).judged(run, task, rater)
    made = [_signed(score, task, prompting, by) for score in judged]
    made += [_signed(score, task, prompting) for score in _free_scores(rows)]
    echo = next(s for s in made if s.metric == "win_rate_tie_inclusive")
    of_control = echo.signature.followed_by(join(control="echo"))
    made.append(replace(echo, signature=of_control, value=12.5, ci95=(8.0, 19.0)))
    put_scores(store, run.run_id, made)
    return run


def _free_scores(rows: Sequence[Scorable]) -> list[Score]:
    """What the main job computes, with fewer draws: most of its time goes there."""
    texts = [row.text for row in rows]
    groups = [row.group for row in rows]
    fixed = diversity_scores(texts, draws=8) if len(texts) >= FIXED_SIZE else []
    return [self_bleu_score(texts, groups=groups), *fixed, *ending_scores(rows)]


def _response(item: Item, text: str, logprobs: tuple[float, ...] | None = None) -> Response:
    return Response(
        item_key=item.key,
        text=text,
        finish_reason="stop",
        prompt_hash=digest(item.prompt),
        response_tokens=len(text.split()),
        choice_logprobs=logprobs,
    )


def _rating(item: Item, text: str, aspect: int, rating: int) -> Rating:
    return Rating(
        judge=RATER,
        item_key=item.key,
        text_key=text_key(text),
        aspect=aspect,
        rating=rating,
        reason=None,
        call_key=digest([text, aspect]),
    )


def _run(
    model: str, suite: str, prompting: str, about: tuple[str, int, str], place: int = 0
) -> Run:
    list_key, n_items, key = about
    return Run(
        run_id=digest([model, suite, list_key, key]),
        model=model,
        suite=suite,
        prompting=prompting,
        seed=0,
        list_key=list_key,
        n_items=n_items,
        generation_key=key,
        environment={"mipo_eval": "0.1.0", "command": f"--model {model} --suite {suite}"},
        created_at=DAY.replace(minute=place),
        updated_at=DAY.replace(minute=place),
    )


def _signed(score: Score, task: str, prompting: str = "", by: Signature = NOTHING) -> Score:
    about = join(suite="tea@1", prompting=prompting or None, seed=0)
    return replace(score, task=task, signature=about.followed_by(by, score.signature))


def _choices(store: Store, runs: Sequence[Run]) -> None:
    """One judge compares the best run with the base in both orders; it leans to the first."""
    rng = random.Random(0)
    made = []
    one, other = (answered(store, run.list_key, run.generation_key) for run in (runs[2], runs[1]))
    for left, right in zip(one, other, strict=True):
        assert left.response is not None
        assert right.response is not None
        for shown in ("a", "b"):
            winner = "a" if rng.random() < (0.8 if shown == "a" else 0.6) else "b"
            made.append(
                Choice(
                    judge_key=CHOOSER,
                    item_key=left.item.key,
                    text_key_a=text_key(left.response.text or ""),
                    text_key_b=text_key(right.response.text or ""),
                    shown_first=shown,  # type: ignore[arg-type]
                    winner=winner,  # type: ignore[arg-type]
                )
            )
    with store.write() as connection:
        put_choices(store, connection, made)


def _by_likelihood(store: Store) -> None:
    rng = random.Random(0)
    of = [
        Item(
            item_id=f"arc-{n}",
            prompt=f"Question {n}?",
            reference="ABCD"[n % 4],
            meta={"kind": "choice", "choices": ["w", "x", "y", "z"]},
        )
        for n in range(80)
    ]
    list_key, _ = put_list(store, [("arc_easy", of)])
    for model, sharpness in (("base", 1.0), ("out/mipo-missing", 2.5)):
        key = digest([model, "letters"])
        put_generation(store, key, {"model": {"engine": "hf"}, "decoding": DECODING})
        made = []
        for n, item in enumerate(of):
            scores = [rng.gauss(1.0 if choice == n % 4 else 0.0, 1.0) for choice in range(4)]
            logprobs = tuple(sharpness * score for score in scores)
            made.append(_response(item, "ABCD"[max(range(4), key=scores.__getitem__)], logprobs))
        put_responses(store, key, made)
        run = _run(model, "mcq_letters", "", (list_key, len(of), key))
        put_run(store, run)
        entries = list(answered(store, list_key, key))
        found = likelihood_scores(entries, choices="letters", seed=0)
        put_scores(store, run.run_id, [_signed(score, "arc_easy") for score in found])


def _training(store: Store, seed: int, negatives: str) -> None:
    training = Training(
        training_id=digest(["training", seed]),
        method=f"mipo-{negatives}",
        model="base",
        suite="tea",
        seed=seed,
        checkpoint=f"out/mipo-{negatives}",
        recipe={
            "name": f"mipo-{negatives}",
            "pairs": {"negatives": negatives, "n_negatives": 1},
            "optimization": {"learning_rate": 1e-7, "batch_size": 4},
            "settings": {"beta": 0.1},
        },
        pair_report={"pairs": 64, "dropped": {"empty response": 2}, "chosen_tokens": 41.5},
        environment={},
        status="done" if seed == 0 else "stopped",
        reason=None if seed == 0 else "stopped by the user at step 900",
        created_at=DAY,
        updated_at=DAY.replace(hour=13 + seed),
    )
    put_training(store, training)
    rng = random.Random(seed)
    points = []
    for step in range(10, 1000, 10):
        rise = 1 - math.exp(-step / 200)
        points += [
            CurvePoint("ranking_accuracy", step, 0.5 + 0.4 * rise + rng.gauss(0, 0.03)),
            CurvePoint("loss", step, 0.69 - 0.3 * rise + rng.gauss(0, 0.02)),
            CurvePoint("kl", step, 2.0 * rise),
            CurvePoint("tokens_per_second", step, 900 + rng.gauss(0, 20)),
        ]
    put_curve(store, training.training_id, points)


def _rate(value: float, n: int = 100) -> dict[str, object]:
    return {"value": value, "n": n, "ci95": [value - 5, value + 4]}


def _validation(store: Store) -> None:
    judge = {
        "strict": _rate(71.0),
        "tie_tolerant": _rate(84.0),
        "tie_rate": _rate(13.0),
        "half_ties": _rate(77.5),
        "agreement": _rate(71.0),
        "kappa": 0.51,
    }
    put_validation(
        store,
        Validation(
            judge_key=RATER,
            data="prism",
            data_key=digest("prism"),
            figures={
                "pairs": 100,
                "judged": 98,
                "judge": judge,
                "longest": {"half_ties": _rate(60.0)},
                "over_longest": _rate(17.5),
                "first_place_rate": None,
                "same_verdict_rate": None,
                "length": {"n": 90, "judge": 64.0, "label": 55.0, "excess": 9.0},
                "unparsed_rate": 1.5,
                "attacks": {
                    "hostile_win_rate": {"kind": None, **_rate(9.0)},
                    "by_kind": [{"kind": "instruction", **_rate(12.0)}],
                },
            },
            failings=("no better than choosing the longer response",),
            created_at=DAY,
        ),
    )


def _calls(store: Store) -> None:
    rng = random.Random(0)
    backends = (
        {"backend": "openai", "model": "gpt-4.1", "url": "https://api.openai.com/v1"},
        {"backend": "checker", "model": "rules", "revision": "1"},
    )
    rows = [
        {
            **dict.fromkeys(column.name for column in calls.columns),
            "call_key": digest([backend, n]),
            "backend": backend,
            "request": "{}",
            "status": "timeout" if n == 7 else "ok",
            "reply": "3",
            "prompt_tokens": 400 if backend["backend"] == "openai" else None,
            "completion_tokens": 1 if backend["backend"] == "openai" else None,
            "seconds": rng.lognormvariate(0, 0.5) if backend["backend"] == "openai" else None,
            "created_at": DAY,
        }
        for backend in backends
        for n in range(50)
    ]
    with store.write() as connection:
        store.put(connection, calls, rows)
