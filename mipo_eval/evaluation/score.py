"""From outcomes to numbers: value, n, what is missing and interval, for every surface.

The main job stores what it makes here. Whoever shows a stored number asks `Numbers.current`, which
makes it again where its outcomes changed since, as when a judge that refused was asked later: no
surface shows an interval of other outcomes than its value.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from mipo_eval.evaluation.controls import CONTROLS, control_texts
from mipo_eval.evaluation.outcomes import (
    COMPARED,
    DERIVED,
    ENDS,
    WIN_RATES,
    Against,
    Outcomes,
    chosen,
    compared,
)
from mipo_eval.evaluation.wishes import WISHED
from mipo_eval.judges.parse import weighted_rating
from mipo_eval.keys import digest
from mipo_eval.metrics.aggregate import mean_score, rate_score
from mipo_eval.metrics.calibration import calibration_scores
from mipo_eval.metrics.diversity import FIXED_SIZE, diversity_scores, same_prompt_scores
from mipo_eval.metrics.self_bleu import self_bleu_score
from mipo_eval.metrics.win_rate import METRIC_NAMES
from mipo_eval.metrics.words import Tokenize, Words, tokenizer_for
from mipo_eval.records import Run, Score, text_key
from mipo_eval.signature import NOTHING, Signature, join, short
from mipo_eval.stats.bootstrap import Crossed, Floats
from mipo_eval.stats.intervals import intervals_in
from mipo_eval.store.engine import Store
from mipo_eval.store.items import Index, Texts, items_by_key
from mipo_eval.store.judges import StoredJudge, list_judges
from mipo_eval.store.responses import Answered, Scorable, answered, scorable
from mipo_eval.store.runs import get_scores, stored_scores
from mipo_eval.store.trainings import Training, list_trainings
from mipo_eval.store.verdicts import first_tokens
from mipo_eval.tasks.answers import grade
from mipo_eval.verdict import EMPTY, NO_PREFERENCES, NO_WISH, NOT_JUDGED, chooses

STORED_RATES = (*WIN_RATES, "tie_rate")
"""What the main job stores of a comparison with the references."""
WEIGHTED = "rating_weighted"
NO_WEIGHTS = "no probabilities, or less than half of them on ratings"
NO_CONTROL = "the control has no text here"
NO_SPACES = "written without spaces, which 13a takes for a word"

_ENOUGH_ITEMS = 200
"""Items that tell the script of a task."""


class Numbers:
    """The numbers of stored runs as their outcomes are now."""

    def __init__(self, store: Store, outcomes: Outcomes | None = None) -> None:
        self._store = store
        self.outcomes = outcomes or Outcomes(store)
        self._again: dict[tuple[object, ...], dict[tuple[str, str | None], Score]] = {}
        """By run, task, judge and whether of controls: numbers by metric and control."""
        self._keys: dict[tuple[str, str, str | None], str] = {}
        self._scorable: tuple[str, list[Scorable]] = ("", [])
        """The rows of the run that was asked about last."""

    def of_run(self, run: Run) -> list[Score]:
        """Return every score of a run, by task, metric and signature."""
        return [self.current(run, score) for score in get_scores(self._store, run.run_id)]

    def so_far(self, run: Run) -> list[Score]:
        """Return what has been judged of a run that is not done; its n says how much that is."""
        judges = [judge for judge in self._judges.values() if self.outcomes.rates(judge.key)]
        return [
            score
            for task in self.outcomes.listed(run).tasks
            for judge in judges
            for score in self.judged(run, task, judge)
            if score.n
        ]

    def current(self, run: Run, score: Score) -> Score:
        """Return a stored score if its outcomes are still those it was made from, else a new one.

        What cannot be made from the store stays as it is: another tool's numbers, and what only a
        scoring model can measure.
        """
        judge = self._judges.get(score.judge_key) if score.judge_key else None
        if score.is_imported or (score.judge is not None and judge is None):
            return score
        if judge is None and score.outcomes_key is None:
            return score  # of an earlier version; to measure diversity again would take long
        if score.outcomes_key == self.outcomes_key(run, score.task, judge.key if judge else None):
            return score
        made = self._made(run, score, judge).get((score.metric, score.control))
        return score if made is None else replace(made, task=score.task, signature=score.signature)

    @cached_property
    def _judges(self) -> Mapping[str, StoredJudge]:
        """Judges that rate, by what signatures call them."""
        known = list_judges(self._store)
        return {short(judge.key): judge for judge in known if not chooses(judge.spec)}

    def _made(
        self, run: Run, score: Score, judge: StoredJudge | None
    ) -> Mapping[tuple[str, str | None], Score]:
        key = run.run_id, score.task, score.judge_key, score.control is None
        if key not in self._again:
            if judge is None:
                form = score.signature.parts.get("form", "query")
                made = self.free(run, score.task, form)
            elif score.control is None:
                made = self.judged(run, score.task, judge)
            else:
                made = self.controls(run, score.task, judge)
            self._again[key] = {(one.metric, one.control): one for one in made}
        return self._again[key]

    def outcomes_key(self, run: Run, task: str, judge: str | None) -> str:
        """Return a digest of everything that the numbers of a task are made from.

        Of a judge's: the points of every response and how far they are from the reference's. Of
        those without a judge: the responses.
        """
        key = run.run_id, task, judge
        if key not in self._keys:
            self._keys[key] = self._outcomes_key(run, task, judge)
        return self._keys[key]

    def _outcomes_key(self, run: Run, task: str, judge: str | None) -> str:
        rows = self._rows(run, task).tolist()
        if judge is None:
            texts = self.outcomes.texts(run)
            return digest([(texts.names[row], texts.absent.get(row)) for row in rows])
        against = self.outcomes.against_reference(run, judge)
        points = [values[rows].tobytes().hex() for values in (against.margins, against.own.values)]
        unscored = [row for row in rows if row in against.why]
        return digest([points, [(against.why[row], against.own.why.get(row)) for row in unscored]])

    def _rows(self, run: Run, task: str) -> Index:
        return self.outcomes.listed(run).tasks.get(task, np.array([], dtype=np.intp))

    def free(self, run: Run, task: str, form: str) -> list[Score]:
        """Return what needs no judge.

        Args:
            run: whose responses.
            task: of its items.
            form: how the items are asked, a `suites.Form`.
        """
        if self._scorable[0] != run.run_id:
            listed = scorable(self._store, run.list_key, run.generation_key)
            self._scorable = (run.run_id, list(listed))
        rows = [row for row in self._scorable[1] if row.task == task]
        if form == "query":
            made = response_scores(self._store, rows)
        else:
            entries = self._entries(run, task)
            if form == "answer":
                made = answer_scores(entries) + ending_scores(rows)
            else:
                made = likelihood_scores(entries, choices=form, seed=run.seed)
        key = self.outcomes_key(run, task, None)
        return [replace(score, task=task, outcomes_key=key) for score in made]

    def _entries(self, run: Run, task: str) -> list[Answered]:
        return list(answered(self._store, run.list_key, run.generation_key, task))

    def judged(self, run: Run, task: str, judge: StoredJudge) -> list[Score]:
        """Return win rates under each tie rule, tie rate and mean rating (paper, section 5)."""
        against = self.outcomes.against_reference(run, judge.key)
        made = [*self._rates(run, task, judge.key, against), self._mean(run, task, judge.key)]
        made += self._wishes(run, task, judge.key)
        if judge.spec.get("sampling", {}).get("logprobs"):
            made += self._weighted(run, task, judge.key)
        return made

    def controls(self, run: Run, task: str, judge: StoredJudge) -> list[Score]:
        """Return what `judged` does of the control entrants, in place of the responses."""
        entries = self._entries(run, task)
        listed, rows = self.outcomes.listed(run), self._rows(run, task).tolist()
        made: list[Score] = []
        for control in CONTROLS:
            texts = control_texts(control, entries, seed=run.seed)
            names: list[str | None] = [None] * len(listed.keys)
            for row, text in zip(rows, texts, strict=True):
                names[row] = text and listed.keys[row] + text_key(text)
            absent = {row: NO_CONTROL for row, name in enumerate(names) if name is None}
            own = Texts(names, absent)
            against = self.outcomes.against_reference(run, judge.key, own)
            scores = [
                *self._rates(run, task, judge.key, against),
                self._mean(run, task, judge.key, against),
            ]
            made += [
                replace(one, signature=join(control=control).followed_by(one.signature))
                for one in scores
            ]
        return made

    def derived(self, run: Run, task: str, metric: str, judge: str) -> Score:
        """Return one of `DERIVED`, which is made when asked for and not stored."""
        against = self.outcomes.against_reference(run, judge)
        return self._compared(run, (task, metric), judge, against)

    def _rates(self, run: Run, task: str, judge: str, against: Against) -> list[Score]:
        references = self.outcomes.listed(run).references
        if not any(references[row] for row in self._rows(run, task).tolist()):
            return []
        return [self._compared(run, (task, metric), judge, against) for metric in STORED_RATES]

    def _compared(self, run: Run, about: tuple[str, str], judge: str, against: Against) -> Score:
        _, metric = about
        column = compared(against, COMPARED[metric])
        ties = DERIVED.get(metric, WIN_RATES.get(metric, "counted"))
        score = self._score(run, about, (column.values, column.why))
        key = self.outcomes_key(run, about[0], judge)
        return replace(score, signature=join(ties=ties), outcomes_key=key)

    def _mean(self, run: Run, task: str, judge: str, against: Against | None = None) -> Score:
        own = (against or self.outcomes.against_reference(run, judge)).own
        wanted = self.outcomes.listed(run).wanted
        means = np.full(len(own.values), np.nan)
        np.divide(own.values, wanted, out=means, where=wanted > 0)
        score = self._score(run, (task, "rating_mean"), (means, own.why))
        key = self.outcomes_key(run, task, judge)
        return replace(score, signature=join(over="items"), outcomes_key=key)

    def _wishes(self, run: Run, task: str, judge: str) -> list[Score]:
        """Return the shares of the wishes that responses follow, where items say what they are."""
        if not self.outcomes.rates(judge) or not self.outcomes.wishes(run):
            return []
        key = self.outcomes_key(run, task, judge)
        found = [
            self._score(run, (task, metric), self.outcomes.satisfied(run, metric, judge))
            for metric in WISHED
        ]
        signature = join(over="items")
        return [
            replace(score, signature=signature, outcomes_key=key)
            for score in found
            if score.n or score.unscored
        ]

    def _score(
        self,
        run: Run,
        about: tuple[str, str],
        found: tuple[Floats, Mapping[int, str]],
    ) -> Score:
        """Return one number of one task; without a single value it says why."""
        task, metric = about
        why = found[1]
        asked = [row for row in self._rows(run, task).tolist() if why.get(row) != NO_WISH]
        rows = np.array(asked, dtype=np.intp)
        values = found[0][rows]
        absent = np.isnan(values)
        unscored = Counter(why[row] for row in rows[absent].tolist())
        blank = Score(
            task=task,
            metric=metric,
            value=None,
            n=0,
            unscored_reasons=dict(unscored.most_common()),
            signature=NOTHING,
        )
        if absent.all():
            return blank
        groups = self.outcomes.listed(run).groups
        own = [groups[row] for row in rows.tolist()]
        intervals = intervals_in(values[:, None], own, ENDS.get(metric))
        value = float(np.nanmean(values))
        return replace(blank, value=value, n=int((~absent).sum()), ci95=intervals[0])

    def _weighted(self, run: Run, task: str, judge: str) -> list[Score]:
        """Return the mean of the ratings that a judge's probabilities give, if it tells any.

        A response whose rating on one of the preferences cannot be weighted has none, as with
        plain ratings. No call is made: the probabilities came with the replies.
        """
        listed, texts = self.outcomes.listed(run), self.outcomes.texts(run)
        weighted: dict[str, list[float | None]] = {}
        for item_key, own_key, logprobs in first_tokens(self._store, judge, run.list_key):
            weighted.setdefault(item_key + own_key, []).append(weighted_rating(logprobs))
        values = np.full(len(listed.keys), np.nan)
        why: dict[int, str] = {}
        for row in self._rows(run, task).tolist():
            wanted, found = int(listed.wanted[row]), weighted.get(texts.names[row] or "", [])
            known = [value for value in found if value is not None]
            if row in texts.absent:
                why[row] = texts.absent[row]
            elif not wanted:
                why[row] = NO_PREFERENCES
            elif len(known) < wanted:
                why[row] = NOT_JUDGED if len(found) < wanted else NO_WEIGHTS
            else:
                values[row] = sum(known) / len(known)
        score = self._score(run, (task, WEIGHTED), (values, why))
        if score.value is None:
            return []
        signature = join(over="items", weighted="first-token")
        return [
            replace(score, signature=signature, outcomes_key=self.outcomes_key(run, task, judge))
        ]


class Snapshot:
    """What reports need of a store. What was read stays as it was; a new look is a new object.

    The first leaderboard reads the verdicts it shows, the next one with another judge, rule for
    ties or metric only what is new to it. A board keeps one as long as the store does not change.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.outcomes = Outcomes(store)
        self.numbers = Numbers(store, self.outcomes)

    @cached_property
    def scores(self) -> list[tuple[Run, Score]]:
        """Every score of a model with its run, oldest run first."""
        return [(run, score) for run, score in self._every if score.control is None]

    @cached_property
    def controls(self) -> list[tuple[Run, Score]]:
        """The same of control entrants."""
        return [(run, score) for run, score in self._every if score.control is not None]

    @cached_property
    def _every(self) -> list[tuple[Run, Score]]:
        return stored_scores(self.store)

    @cached_property
    def judges(self) -> list[StoredJudge]:
        """Every judge, by name and key."""
        return list_judges(self.store)

    @cached_property
    def trainings(self) -> list[Training]:
        """Every training, the latest first."""
        return list_trainings(self.store)

    @property
    def metrics(self) -> list[str]:
        """Metrics a leaderboard can show, by name."""
        stored = {score.metric for _, score in self.scores}
        derived = set(DERIVED) if METRIC_NAMES["win"] in stored else set()
        return sorted(stored | derived)


def why_no_text(row: Scorable) -> str | None:
    """Return why an item has no response that says something; None when it has one."""
    if row.text is None:
        return row.reason or "no response"
    return None if row.text else EMPTY


def clusters(rows: Sequence[Scorable]) -> list[Crossed]:
    """Return what each item shares with others: its prompt, and its user where it has one."""
    return [Crossed(row.group, row.user_id) for row in rows]


def tokenizer_of(store: Store, rows: Sequence[Scorable]) -> Tokenize:
    """Return what finds the words of a task's responses, the same for every model that is asked.

    The items' script decides; where they have spaces between words and most responses to them have
    not (a translation), the responses' does.
    """
    asked = items_by_key(store, [row.item_key for row in rows[:_ENOUGH_ITEMS]]).values()
    of_items = tokenizer_for(part for item in asked for part in (item.prompt, item.reference or ""))
    return tokenizer_for(row.text or "" for row in rows) if of_items == "13a" else of_items


def response_scores(store: Store, rows: Sequence[Scorable]) -> list[Score]:
    """Return what needs no judge: diversity, length, and how much was cut off."""
    tokenize = tokenizer_of(store, rows)
    texts, reasons = in_words(rows, tokenize)
    groups = clusters(rows)
    scores = []
    n_texts = sum(text is not None for text in texts)
    words = Words(tokenize)
    if n_texts >= 2:
        scores.append(self_bleu_score(texts, groups=groups, reasons=reasons, tokenize=words))
    if n_texts >= FIXED_SIZE:
        scores += diversity_scores(texts, groups, reasons=reasons, tokenize=words)
    scores += same_prompt_scores(texts, groups, reasons=reasons, tokenize=words)
    return scores + ending_scores(rows)


def in_words(
    rows: Sequence[Scorable], tokenize: Tokenize
) -> tuple[list[str | None], list[str | None]]:
    """Return the responses in which words can be found, and why the others are left out."""
    texts, reasons = [row.text or None for row in rows], [why_no_text(row) for row in rows]
    if tokenize == "13a":
        for i, text in enumerate(texts):
            if text and tokenizer_for([text]) != "13a":
                texts[i], reasons[i] = None, NO_SPACES
    return texts, reasons


def ending_scores(rows: Sequence[Scorable]) -> list[Score]:
    """Return how long responses are, and how many were cut off, where the model type tells."""
    told: dict[str, list[float | None]] = {
        "response_tokens": [row.response_tokens for row in rows],
        # Of models that do not think nothing is said.
        "thinking_tokens": [row.thought for row in rows] if any(r.thought for r in rows) else [],
        "truncation_rate": [
            None if row.finish_reason is None else 100.0 * (row.finish_reason == "length")
            for row in rows
        ],
    }
    scores = []
    for metric, values in told.items():
        if not values:
            continue
        known = [value if row.text else None for value, row in zip(values, rows, strict=True)]
        if any(value is not None for value in known):
            make = rate_score if metric == "truncation_rate" else mean_score
            score = make(
                metric,
                known,
                groups=clusters(rows),
                reasons=[why_no_text(row) or "the model type does not tell" for row in rows],
            )
            scores.append(score)
    return scores


def answer_scores(entries: Sequence[Answered]) -> list[Score]:
    """Return accuracy and the rate of replies without a readable answer, 0-100.

    A reply without a readable answer is not right (as in the paper), and its rate stands beside
    the accuracy; an item without any reply is unscored. A task without any has an accuracy
    without a value, so that its reasons are shown.
    """
    replies = [entry.response.text if entry.response else None for entry in entries]
    grades = [
        None if reply is None else grade(entry.item, reply)
        for entry, reply in zip(entries, replies, strict=True)
    ]
    reasons = _why_no_reply(entries)
    if all(found is None for found in grades):
        return [_nothing(reasons, join(extraction="last-answer"))]
    return [
        rate_score(
            metric,
            [None if found is None else 100.0 * (found == wanted) for found in grades],
            signature=join(extraction="last-answer"),
            groups=[Crossed(entry.item.group, entry.item.user_id) for entry in entries],
            reasons=reasons,
        )
        for metric, wanted in (("accuracy", "right"), ("unextracted_rate", "unextracted"))
    ]


def _why_no_reply(entries: Sequence[Answered]) -> list[str]:
    return [
        (entry.response.reason if entry.response else None) or "not generated" for entry in entries
    ]


def _nothing(reasons: Sequence[str], signature: Signature) -> Score:
    """Return the accuracy of a task of which not one item has a reply."""
    counted = dict(Counter(reasons).most_common())
    return Score(metric="accuracy", value=None, n=0, unscored_reasons=counted, signature=signature)


def likelihood_scores(entries: Sequence[Answered], *, choices: str, seed: int) -> list[Score]:
    """Return accuracy, answer entropies and calibration from the choices' log-probabilities."""
    outcomes = [chosen(entry) for entry in entries]
    if not any(outcomes):
        return [_nothing(_why_no_reply(entries), join(choices=choices))]
    groups = [Crossed(entry.item.group, entry.item.user_id) for entry in entries]
    return calibration_scores(outcomes, choices=choices, groups=groups, seed=seed)
