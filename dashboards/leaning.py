"""What judges lean to: how they use their scale, the place a response stands at, its length."""

from typing import Any

import altair as alt
import pandas as pd
import sqlalchemy as sa

from mipo_eval.dashboards.judged import judge_names
from mipo_eval.dashboards.plots import colour_by, legend_height
from mipo_eval.dashboards.spending import drawn_below
from mipo_eval.store import Store
from mipo_eval.store.judges import choosers
from mipo_eval.store.tables import choices, generations, judges, responses, runs, verdicts
from mipo_eval.store.verdicts import chosen_pairs, pair_verdicts


def rating_table(store: Store) -> pd.DataFrame:
    """Return how judges use their scale: judge, judge_key, rating, verdicts, share (0-1).

    Verdicts without a rating are a line of their own whose rating is absent.
    """
    number = sa.func.count().label("verdicts")
    query = sa.select(verdicts.c.judge_key, verdicts.c.rating, number).group_by(
        verdicts.c.judge_key, verdicts.c.rating
    )
    columns = ["judge_key", "rating", "verdicts"]
    with store.read() as connection:
        frame = pd.DataFrame(connection.execute(query).fetchall(), columns=columns)
    names = judge_names(store)
    frame["judge"] = frame["judge_key"].map(names)
    frame["rating"] = frame["rating"].astype("Int64")
    frame["share"] = frame["verdicts"] / frame.groupby("judge_key")["verdicts"].transform("sum")
    columns = ["judge", "judge_key", "rating", "verdicts", "share"]
    return frame[columns].sort_values(["judge", "rating"], ignore_index=True)


def place_table(store: Store) -> pd.DataFrame:
    """Return how choices depend on the places, one line per judge that chooses.

    Columns: judge, judge_key, choices (named a response that is known to have stood first or
    second), first (%, of those, named the one that stood first; 50 is no bias), ties, unread,
    pairs (asked and read in both orders), same (%), flipped (%; named the other response when the
    places were exchanged).
    """
    names = judge_names(store)
    lines = _first_places(store)
    both = _both_orders(store)
    return pd.DataFrame(
        [
            {"judge": names.get(key, key[:8]), "judge_key": key, **line, **both.get(key, _NO_PAIRS)}
            for key, line in sorted(lines.items(), key=lambda pair: names.get(pair[0], ""))
        ]
    )


_NO_PAIRS: dict[str, Any] = {"pairs": 0, "same": None, "flipped": None}


def _first_places(store: Store) -> dict[str, dict[str, Any]]:
    query = sa.select(
        choices.c.judge_key, choices.c.shown_first, choices.c.winner, sa.func.count()
    ).group_by(choices.c.judge_key, choices.c.shown_first, choices.c.winner)
    found: dict[str, dict[str, int]] = {}
    with store.read() as connection:
        for key, shown, winner, count in connection.execute(query):
            line = found.setdefault(key, {"named": 0, "first": 0, "ties": 0, "unread": 0})
            if winner in {"a", "b"} and shown in {"a", "b"}:
                line["named"] += count
                line["first"] += count * (winner == shown)
            line["ties"] += count * (winner == "tie")
            line["unread"] += count * (winner is None)
    return {
        key: {
            "choices": line["named"],
            "first": 100 * line["first"] / line["named"] if line["named"] else None,
            "ties": line["ties"],
            "unread": line["unread"],
        }
        for key, line in found.items()
    }


def _both_orders(store: Store) -> dict[str, dict[str, Any]]:
    found = {}
    for judge in choosers(store):
        said = pair_verdicts(store, judge.key, chosen_pairs(store, [judge.key]))
        both = [one for one in said if one.winner and len(one.choices) == 2]
        if both:
            same = sum(one.choices[0].winner == one.choices[1].winner for one in both)
            flipped = sum(bool(one.flipped) for one in both)
            rates = {"same": 100 * same / len(both), "flipped": 100 * flipped / len(both)}
            found[judge.key] = {"pairs": len(both), **rates}
    return found


def length_table(store: Store) -> pd.DataFrame:
    """Return ratings against the length of responses, by judge and length.

    Columns: judge, judge_key, characters (middle of the bin), start, end, rating (mean, 1-5), low,
    high (95 %, normal), responses. Over a sample of items drawn by their keys, so that every run
    is in it alike; bins hold equally many responses.
    """
    frame = _rated_lengths(store)
    columns = ["judge", "judge_key", "characters", "start", "end", "rating", "low", "high"]
    if frame.empty:
        return pd.DataFrame(columns=[*columns, "responses"])
    names = judge_names(store)
    lines = []
    for key, own in frame.groupby("judge_key"):
        bins = pd.qcut(own["characters"], 8, duplicates="drop") if len(own) > 8 else None
        groups = [("", own)] if bins is None else own.groupby(bins, observed=True)
        for _, part in groups:
            mean, n = part["rating"].mean(), len(part)
            half = 1.96 * part["rating"].std() / n**0.5 if n > 1 else None
            lines.append(
                {
                    "judge": names.get(str(key), str(key)[:8]),
                    "judge_key": key,
                    "characters": part["characters"].mean(),
                    "start": part["characters"].min(),
                    "end": part["characters"].max(),
                    "rating": mean,
                    "low": None if half is None else mean - half,
                    "high": None if half is None else mean + half,
                    "responses": n,
                }
            )
    return pd.DataFrame(lines)


def _rated_lengths(store: Store) -> pd.DataFrame:
    """Return judge_key, characters and mean rating of responses to a sample of the items.

    Both tables are read as ranges of their keys and joined here: over a million verdicts the
    database's own join takes minutes.
    """
    with store.read() as connection:
        total = connection.execute(sa.select(sa.func.sum(runs.c.n_items))).scalar() or 0
        below = drawn_below(int(total))
        texts = sa.select(
            responses.c.item_key, responses.c.text_key, sa.func.length(responses.c.text)
        ).where(
            responses.c.generation_key.in_(sa.select(generations.c.generation_key)),
            responses.c.text.is_not(None),
            *([] if below is None else [responses.c.item_key < below]),
        )
        lengths = pd.DataFrame(
            connection.execute(texts).fetchall(), columns=["item_key", "text_key", "characters"]
        ).drop_duplicates()
        keys = connection.execute(sa.select(judges.c.judge_key)).scalars().all()
        parts = [
            _mean_ratings(connection, key, below).merge(lengths, on=["item_key", "text_key"])
            for key in keys
        ]
    columns = ["judge_key", "characters", "rating"]
    found = [part[columns] for part in parts if len(part)]
    return pd.concat(found) if found else pd.DataFrame(columns=columns)


def _mean_ratings(connection: sa.Connection, judge_key: str, below: str | None) -> pd.DataFrame:
    query = (
        sa.select(verdicts.c.item_key, verdicts.c.text_key, sa.func.avg(verdicts.c.rating))
        .where(
            verdicts.c.judge_key == judge_key,
            verdicts.c.rating.is_not(None),
            *([] if below is None else [verdicts.c.item_key < below]),
        )
        .group_by(verdicts.c.item_key, verdicts.c.text_key)
    )
    rows = [(judge_key, item, text, float(mean)) for item, text, mean in connection.execute(query)]
    return pd.DataFrame(rows, columns=["judge_key", "item_key", "text_key", "rating"])


def rating_plot(frame: pd.DataFrame) -> alt.Chart:
    """Return the share of each rating by judge."""
    shown = frame[frame["rating"].notna()]
    plot: alt.Chart = (
        alt.Chart(shown)
        .mark_bar()
        .encode(
            x=alt.X("rating:O", title="rating (1-5)", axis=alt.Axis(labelAngle=0)),
            xOffset=alt.XOffset("judge:N"),
            y=alt.Y("share:Q", title="share of verdicts (0-1)"),
            color=colour_by(shown, "judge"),
            tooltip=["judge:N", "rating:O", "verdicts:Q", alt.Tooltip("share:Q", format=".3f")],
        )
        .properties(height=260 + legend_height(frame, "judge"))
    )
    return plot


def length_plot(frame: pd.DataFrame) -> alt.LayerChart:
    """Return mean ratings by the length of responses, a line a judge, with 95 % intervals."""
    base = alt.Chart(frame).encode(
        x=alt.X("characters:Q", title="length of the response (characters)"),
        color=colour_by(frame, "judge"),
    )
    scale = alt.Scale(zero=False)
    bars = base.mark_rule(opacity=0.6).encode(
        y=alt.Y("low:Q", title="mean rating (1-5)", scale=scale), y2="high:Q"
    )
    y = alt.Y("rating:Q", title="mean rating (1-5)", scale=scale)
    lines = base.mark_line().encode(y=y)
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(
        y=y,
        tooltip=[
            "judge:N",
            alt.Tooltip("start:Q", title="from (characters)"),
            alt.Tooltip("end:Q", title="to (characters)"),
            alt.Tooltip("rating:Q", format=".2f"),
            "responses:Q",
        ],
    )
    return alt.LayerChart(layer=[bars, lines, dots]).properties(
        height=260 + legend_height(frame, "judge")
    )
