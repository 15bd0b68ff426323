"""Several workers at one run: each question is paid for once, whoever dies, on both databases."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import ExitStack

import pytest
import sqlalchemy as sa

from mipo_eval.errors import StoreError
from mipo_eval.models.base import Failure, Message, Reply, Request
from mipo_eval.store import Store
from mipo_eval.store.asking import Answer
from mipo_eval.store.calls import Call, Ledger
from mipo_eval.store.claims import Claims
from mipo_eval.store.tables import claims, workers
from tests.waiting import HANG, wait_until

KEYS = ["a", "b", "c"]


@pytest.fixture(params=["sqlite", "postgresql"])
def stores(request: pytest.FixtureRequest) -> Iterator[list[Store]]:
    """The same store, opened as three processes would."""
    url = "store.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with ExitStack() as stack:
        yield [stack.enter_context(Store.open(url)) for _ in range(3)]


def _moved(store: Store, seconds: float) -> None:
    """Change when every worker was last heard of."""
    with store.write() as connection:
        connection.execute(sa.update(workers).values(until=workers.c.until + seconds))


def _left(store: Store) -> list[int]:
    with store.read() as connection:
        counts = [sa.select(sa.func.count()).select_from(table) for table in (claims, workers)]
        return [connection.execute(count).scalar_one() for count in counts]


def test_a_key_belongs_to_one_worker_until_it_is_given_back(stores: list[Store]) -> None:
    with Claims(stores[0]) as first, Claims(stores[1]) as second:
        assert first.take(KEYS) == {*KEYS}
        assert first.take(KEYS[:1]) == {"a"}, "it is ours already"
        assert second.take([*KEYS, "d"]) == {"d"}
        first.release(["b"])
        second.release(["c"])
        first.take(["e"])
        assert second.take(KEYS) == {"b"}
    assert _left(stores[2]) == [0, 0]


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_what_a_dead_worker_held_is_free_again(stores: list[Store], seconds: float) -> None:
    """Its time has passed; or was written when the clock was an hour ahead."""
    dead = Claims(stores[0])
    dead.take(KEYS)
    _moved(stores[0], seconds)
    with Claims(stores[1]) as other:
        assert other.take(KEYS[:2]) == {"a", "b"}
        assert _left(stores[2]) == [2, 1]
    dead.__exit__()


def test_a_worker_that_lives_says_so(stores: list[Store]) -> None:
    def until() -> float:
        with stores[1].read() as connection:
            return float(connection.execute(sa.select(workers.c.until)).scalar_one())

    with Claims(stores[0], lease=0.2) as alive:
        alive.take(KEYS)
        before = until()
        wait_until(lambda: until() > before + 1, what="more than a lease's signs of life")


class _Backend:
    """Answers all that is under way when told to."""

    identity: Mapping[str, str] = {"backend": "told"}

    def __init__(self, outcome: Reply | Failure, *, begin: asyncio.Event | None = None) -> None:
        self.asked: list[str] = []
        self._outcome, self._begin = outcome, begin

    async def check(self) -> None:
        """It can always be asked."""

    async def answer(
        self, requests: Iterable[Request]
    ) -> AsyncGenerator[tuple[Request, Reply | Failure], None]:
        for request in requests:
            self.asked.append(request.messages[0].content)
            await (self._begin.wait() if self._begin else asyncio.sleep(0))
            yield request, self._outcome


async def _asked(store: Store, backend: _Backend, number: int) -> list[Call]:
    ledger: Ledger[int] = Ledger(store, backend)
    questions = (
        (place, Request(messages=(Message(role="user", content=str(place)),)))
        for place in range(number)
    )
    return [call async for _, call in ledger.ask(questions)]


@pytest.mark.parametrize(
    "outcome", [Reply(text="4"), Failure(kind="refused", detail="no")], ids=["reply", "failure"]
)
def test_several_ask_each_question_once(stores: list[Store], outcome: Reply | Failure) -> None:
    """Also one that fails: it is asked again by the next run, not by the neighbour."""
    backends = [_Backend(outcome) for _ in stores]

    async def together() -> list[list[Call]]:
        work = (_asked(*both, 200) for both in zip(stores, backends, strict=True))
        return await asyncio.gather(*work)

    for found in asyncio.run(together()):
        assert len(found) == 200
        assert {call.text for call in found} == {getattr(outcome, "text", None)}
    asked = [text for backend in backends for text in backend.asked]
    assert sorted(asked) == sorted(map(str, range(200)))
    assert all(backend.asked for backend in backends), "the work was shared"
    assert _left(stores[0]) == [0, 0]


def test_a_run_waits_for_what_another_asks_or_takes_it_over(stores: list[Store]) -> None:
    """What a worker held when it was killed is asked by whoever waits for it."""
    killed = Claims(stores[0])
    backend = _Backend(Reply(text="4"))
    held = Request(messages=(Message(role="user", content="1"),)).key(backend.identity)
    killed.take([held])
    threading.Timer(1.0, lambda: _moved(stores[2], -3600)).start()
    found = asyncio.run(_asked(stores[1], backend, 3))
    assert len(found) == 3
    assert backend.asked == ["0", "2", "1"]
    killed.__exit__()


def test_an_answer_is_found_though_its_claim_still_stands(stores: list[Store]) -> None:
    """Claims are given back with the next transaction, which may be the worker's last."""
    backend = _Backend(Reply(text="4"))
    asked = Request(messages=(Message(role="user", content="1"),))
    key = asked.key(backend.identity)

    async def both() -> list[Call]:
        work = asyncio.create_task(_asked(stores[1], backend, 3))
        await asyncio.sleep(1.2)  # it has looked in vain
        other: Ledger[int] = Ledger(stores[0], backend)
        other.save([Answer(key, asked, Reply(text="5"))])
        async with asyncio.timeout(HANG):
            return await work

    with Claims(stores[0]) as held:
        held.take([key])
        found = asyncio.run(both())
    assert sorted(str(call.text) for call in found) == ["4", "4", "5"]
    assert backend.asked == ["0", "2"]


def test_an_answer_is_stored_while_others_are_waited_for(stores: list[Store]) -> None:
    async def watch() -> None:
        begin = asyncio.Event()

        class OneAtOnce(_Backend):
            async def answer(
                self, requests: Iterable[Request]
            ) -> AsyncGenerator[tuple[Request, Reply | Failure], None]:
                waiting = iter(requests)
                yield next(waiting), self._outcome
                await begin.wait()
                yield next(waiting), self._outcome

        backend = OneAtOnce(Reply(text="4"))
        work = asyncio.create_task(_asked(stores[0], backend, 2))
        first = Request(messages=(Message(role="user", content="0"),)).key(backend.identity)
        reader: Ledger[int] = Ledger(stores[1], backend)
        async with asyncio.timeout(HANG):
            while not reader.look_up([first], reader._since):
                await asyncio.sleep(0.05)
        assert not work.done()
        begin.set()
        assert len(await work) == 2

    asyncio.run(watch())


def test_a_store_that_is_merged_leaves_them_behind(stores: list[Store]) -> None:
    from mipo_eval.store.merge import merge

    with Claims(stores[0]) as held, Store.open("other.db") as other:
        held.take(KEYS)
        assert not {one.table for one in merge(other, stores[1])} & {"claims", "workers"}


def _ended(url: str) -> None:
    """End every connection of a database, as a restart of the server does."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(
            sa.text(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )
        )
    engine.dispose()


def test_postgresql_may_go_away_for_a_while(postgres_url: str) -> None:
    ended: list[int] = []

    class Interrupted(_Backend):
        async def answer(
            self, requests: Iterable[Request]
        ) -> AsyncGenerator[tuple[Request, Reply | Failure], None]:
            async for answered in super().answer(requests):
                if len(self.asked) % 50 == 0:
                    _ended(postgres_url)
                    ended.append(len(self.asked))
                yield answered

    backend = Interrupted(Reply(text="4"))
    with Store.open(postgres_url) as store:
        assert len(asyncio.run(_asked(store, backend, 300))) == 300
    assert len(ended) == 6
    assert len({*backend.asked}) == len(backend.asked) == 300


def test_a_server_that_is_down_is_waited_for(postgres_url: str, postgres_server: object) -> None:
    name = sa.make_url(postgres_url).database

    def allow(*, word: str) -> None:
        postgres_server.execute(f"alter database {name} allow_connections {word}")  # type: ignore[attr-defined]

    with Store.open(postgres_url) as store:
        allow(word="false")
        _ended_by(postgres_server, str(name))
        with pytest.raises(StoreError, match="not currently accepting connections"):
            Store.open(postgres_url)
        threading.Timer(1.0, lambda: allow(word="true")).start()
        with Claims(store) as held:
            assert held.take(KEYS) == {*KEYS}


def _ended_by(server: object, name: str) -> None:
    server.execute(  # type: ignore[attr-defined]
        f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
    )
