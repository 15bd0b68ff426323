"""Stores of earlier versions are brought up to date: numbered steps, each done once, in order.

A step knows the tables and texts as they were and writes them by itself: the rest of the package is
what they are now.
"""

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from mipo_eval.errors import StoreError
from mipo_eval.keys import digest, masked_values
from mipo_eval.models.thinking import CUT, take_apart
from mipo_eval.store.tables import schema_info

_DIGITS = 6
"""A version has fewer."""


def schema_version(connection: sa.Connection) -> int:
    """Return the schema of the store behind a connection."""
    query = sa.select(schema_info.c.value).where(schema_info.c.name == "schema_version")
    told = connection.execute(query).scalar()
    if not (isinstance(told, str) and told.isdecimal() and len(told) < _DIGITS):
        raise StoreError(
            f"the store's schema version is {str(told)[:40]!r}, not a number: it is damaged, or "
            "not one of mipo-eval's; restore a copy, or name another with --store"
        )
    return int(told)


def migrate(connection: sa.Connection) -> None:
    """Do every step that the store has not seen, in the transaction of `connection`."""
    for number in range(schema_version(connection) + 1, LATEST + 1):
        MIGRATIONS[number](connection)
        about = {"value": str(number)}
        named = schema_info.c.name == "schema_version"
        connection.execute(sa.update(schema_info).where(named).values(about))


def _m2_scores_know_their_parts(connection: sa.Connection) -> None:
    """Keep a signature's parts, of which it is printed; a control is a part, no longer a prefix.

    Scores of other tools' judges get the judge's key: those had its name only.
    """
    for column in ("parts JSON", "outcomes_key VARCHAR(32)"):
        connection.exec_driver_sql(f"alter table scores add column {column}")
    key = ("run_id", "task", "metric", "signature_key")
    scores = sa.table("scores", *map(sa.column, (*key, "signature")), sa.column("parts", sa.JSON))
    judges = sa.table("judges", *map(sa.column, ("judge_key", "name")), sa.column("spec", sa.JSON))
    imported = {
        (name, spec["imported"]): judge_key
        for judge_key, name, spec in connection.execute(sa.select(judges))
        if "imported" in spec
    }
    columns = [scores.c[name] for name in (*key, "signature")]
    for row in connection.execute(sa.select(*columns)).all():
        parts = dict(part.partition(":")[::2] for part in row.signature.split("|") if part)
        metric = row.metric
        for control in ("mismatched", "generic", "echo", "reference"):
            if metric.startswith(prefix := f"control_{control}_"):
                metric = metric.removeprefix(prefix)
                last = max(list(parts).index(name) for name in ("judge", "parser") if name in parts)
                parts = _with(parts, last, control=control)
        judge_key = imported.get((parts.get("judge", ""), parts.get("source", "")))
        if judge_key is not None and "judge_key" not in parts:
            parts = _with(parts, list(parts).index("judge"), judge_key=judge_key[:8])
        signature = "|".join(f"{name}:{value}" for name, value in parts.items())
        changed = {
            "metric": metric,
            "signature": signature,
            "signature_key": digest(signature),
            "parts": parts,
        }
        same = [scores.c[name] == getattr(row, name) for name in key]
        connection.execute(sa.update(scores).where(*same).values(changed))


def _with(parts: Mapping[str, str], place: int, **new: str) -> dict[str, str]:
    """Return parts with a new one after the one at `place`."""
    pairs = list(parts.items())
    return dict([*pairs[: place + 1], *new.items(), *pairs[place + 1 :]])


def _m3_n_may_be_unknown(connection: sa.Connection) -> None:
    """Let a score be over nobody knows how many items: files of other tools do not always say."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("alter table scores alter column n drop not null")
        return
    connection.exec_driver_sql("alter table scores rename to scores_2")
    connection.exec_driver_sql(
        """create table scores (
        run_id varchar(32) not null, task varchar(64) not null, metric varchar(64) not null,
        signature_key varchar(32) not null, value float, n integer, unscored_reasons json not null,
        ci_low float, ci_high float, signature text not null, parts json not null,
        outcomes_key varchar(32), created_at datetime not null,
        primary key (run_id, task, metric, signature_key)) without rowid"""
    )
    columns = (
        "run_id, task, metric, signature_key, value, n, unscored_reasons, ci_low, ci_high, "
        "signature, parts, outcomes_key, created_at"
    )
    connection.exec_driver_sql(f"insert into scores ({columns}) select {columns} from scores_2")
    connection.exec_driver_sql("drop table scores_2")


def _m4_thinking_is_kept_apart(connection: sa.Connection) -> None:
    """Keep what a model thought beside what it answered, also of responses that hold both.

    Their texts change, so judges are asked about them again; numbers made from them are made anew.
    """
    for column in ("thinking TEXT", "thinking_tokens INTEGER"):
        connection.exec_driver_sql(f"alter table responses add column {column}")
    connection.exec_driver_sql("alter table calls add column thinking TEXT")
    names = ("generation_key", "item_key", "text", "text_key", "reason", "thinking")
    responses = sa.table("responses", *map(sa.column, (*names, "response_tokens")))
    marks = ("think", "thought", "THINK", "reasoning", "<|channel", "assistantfinal")
    likely = sa.or_(*(responses.c.text.contains(mark, autoescape=True) for mark in marks))
    rows = connection.execute(sa.select(responses).where(likely)).all()
    for row in rows:
        parts = take_apart(row.text)
        if parts == (row.text, None):
            continue
        cut = parts.response is None
        changed = {
            "text": parts.response,
            "text_key": None if cut else digest(parts.response),
            "reason": CUT if cut else None,
            "thinking": parts.thinking,
            "response_tokens": None,  # they were those of both
        }
        own = (responses.c.generation_key == row.generation_key) & (
            responses.c.item_key == row.item_key
        )
        connection.execute(sa.update(responses).where(own).values(changed))


def _m5_stores_are_shared(connection: sa.Connection) -> None:
    """Mask passwords and keys in commands, names and settings; have room for any file's name.

    What was told of a model stays under the key that it had, the secret among its parts. SQLite
    took names of any length, which could not be merged into PostgreSQL.
    """
    names = {"item_lists": ["task"], "scores": ["task", "metric"], "trainings": ["method"]}
    names |= {"curves": ["metric"], "validations": ["data"]}
    for table_name, columns_of in names.items():
        if connection.dialect.name == "postgresql" and sa.inspect(connection).has_table(table_name):
            for column_name in columns_of:
                connection.exec_driver_sql(
                    f"alter table {table_name} alter column {column_name} type varchar(255)"
                )
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("pragma secure_delete = on")  # nor in what is left of old pages
    for name, key, texts, documents in (
        ("runs", "run_id", ("model",), ("environment",)),
        ("trainings", "training_id", ("model", "reason"), ("recipe", "environment")),
        ("generations", "generation_key", (), ("spec",)),
        ("judges", "judge_key", (), ("spec",)),
        ("calls", "call_key", ("detail",), ()),
    ):
        if not sa.inspect(connection).has_table(name):
            continue
        columns = (*map(sa.column, (key, *texts)), *(sa.column(n, sa.JSON) for n in documents))
        table = sa.table(name, *columns)
        own, told = table.c[key], [table.c[column] for column in (*texts, *documents)]
        query = sa.select(table).where(sa.or_(*(column.is_not(None) for column in told)))
        for row in connection.execute(query).mappings().all():
            changed = {
                column: new
                for column in (*texts, *documents)
                if (new := _without_secrets(row[column])) != row[column]
            }
            if changed:
                connection.execute(sa.update(table).where(own == row[key]).values(changed))


def _without_secrets(value: Any) -> Any:
    """Return what is told with its secrets masked, but for the text of a system prompt."""
    kept = {"system": value["system"]} if isinstance(value, dict) and "system" in value else {}
    return masked_values(value) | kept if isinstance(value, dict) else masked_values(value)


def _m6_learning_solutions_has_its_own_name(connection: sa.Connection) -> None:
    """Call what learned the data set's solutions so: "sft-gt" is now the row of the paper's."""
    names = ("training_id", "method")
    trainings = sa.table("trainings", *map(sa.column, names), sa.column("recipe", sa.JSON))
    former = trainings.c.method == "sft-gt"
    for row in connection.execute(sa.select(trainings).where(former)).all():
        own = trainings.c.training_id == row.training_id
        recipe = {**row.recipe, "name": "sft-solutions"}
        changed = {"method": "sft-solutions", "recipe": recipe}
        connection.execute(sa.update(trainings).where(own).values(changed))


def _m7_trainings_have_rounds(connection: sa.Connection) -> None:
    """Keep which training one goes on from; none did so before."""
    connection.exec_driver_sql("alter table trainings add column parent VARCHAR(32)")


MIGRATIONS: Mapping[int, Callable[[sa.Connection], None]] = {
    2: _m2_scores_know_their_parts,
    3: _m3_n_may_be_unknown,
    4: _m4_thinking_is_kept_apart,
    5: _m5_stores_are_shared,
    6: _m6_learning_solutions_has_its_own_name,
    7: _m7_trainings_have_rounds,
}
"""Schema to the step that leads to it. What has shipped is not changed any more."""
LATEST = max(MIGRATIONS)
