"""``sentinel profiles``: what is known of customers and terminals, into Redis, out, and shown.

Each answers a mistake with one line and an exit code: 2 for a wrong use of the command, 1 for a
store or a file that cannot be used. Progress goes to standard error, ``--json`` to standard output.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentinel.console import OnStep, note, print_json, progress, table
from sentinel.errors import SentinelError, UsageError

if TYPE_CHECKING:
    from sentinel.dataset import DatasetDescription
    from sentinel.records import Records
    from sentinel.redis_store import RedisStore

Redis = Annotated[
    str,
    typer.Option(
        metavar="URI", help="redis://, rediss://, redis+cluster:// or rediss+cluster:// address."
    ),
]
Dataset = Annotated[
    str, typer.Option(help="The description that the profiles are of: a name, or a YAML file.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]


def register(app: typer.Typer) -> None:
    """Adds these commands to the ``sentinel`` command line."""
    profiles = typer.Typer(
        name="profiles",
        help="Profiles of customers and terminals: load, dump and show them.",
        no_args_is_help=True,
    )
    profiles.command()(load)
    profiles.command()(dump)
    profiles.command()(show)
    app.add_typer(profiles)


def load(
    profiles: Redis,
    bundle: Annotated[
        str | None, typer.Option(metavar="URI", help="Bundle whose profiles to load.")
    ] = None,
    snapshot: Annotated[
        str | None, typer.Option(metavar="URI", help="Snapshot to load, as dump writes it.")
    ] = None,
    dataset: Dataset = "transactions",
    json: JsonFlag = False,
) -> None:
    """Fill Redis with the profiles of a bundle or of a snapshot.

    What Redis has is kept: of an event in both, one counts. A bundle says itself which description
    its profiles are of.

    Example: sentinel profiles load --bundle bundles/first --profiles redis://localhost:6379
    """
    if (bundle is None) == (snapshot is None):
        raise UsageError("expected either --bundle or --snapshot")
    with progress("reading") as step:
        name, data = _of_bundle(bundle) if bundle else _of_snapshot(snapshot or "", dataset)
        entities, digest = asyncio.run(_load(profiles, name, data, step))
    if json:
        print_json({"entities": entities, "snapshot": digest, "dataset": name})
    else:
        note(f"{entities:,} entities loaded, snapshot {digest[:12]}")


def dump(
    profiles: Redis,
    out: Annotated[str, typer.Option(metavar="FILE", help="Snapshot to write, a path or a URI.")],
    dataset: Dataset = "transactions",
    json: JsonFlag = False,
) -> None:
    """Write the profiles on Redis into a snapshot.

    Example: sentinel profiles dump --profiles redis://localhost:6379 --out profiles.snapshot
    """
    from sentinel.bundle import write_file
    from sentinel.dataset import load_description

    name = load_description(dataset).name
    with progress("reading") as step:
        data = asyncio.run(_dump(profiles, name, step))
    write_file(out, data)
    if json:
        print_json({"file": out, "bytes": len(data), "dataset": name})
    else:
        note(f"{out}: {len(data):,} bytes")


def show(
    entity: Annotated[str, typer.Argument(metavar="ENTITY", help="As in customer_id=42.")],
    profiles: Annotated[
        str,
        typer.Option(metavar="URI", help="Address of Redis, or a snapshot, or a bundle."),
    ],
    dataset: Dataset = "transactions",
    last: Annotated[int, typer.Option(min=0, help="How many of the last records to list.")] = 10,
    json: JsonFlag = False,
) -> None:
    """Show what is known of one customer, or of one terminal.

    Example: sentinel profiles show customer_id=42 --profiles redis://localhost:6379
    """
    name, equals, key = entity.partition("=")
    if not equals or not name or not key:
        raise UsageError(f"ENTITY is {entity!r}; expected a name and a key, as in customer_id=42")
    records = _records(profiles, dataset, name, key)
    if not len(records):
        raise SentinelError(f"nothing is known of {name} {key!r}")
    told = {"entity": name, "key": key, **summary(records, last)}
    if json:
        print_json(told)
        return
    table(f"{name} {key}", _figures(told))
    if recent := told["recent"]:
        columns = ("time", "amount", "events", "known frauds", "unusual")
        rows = [tuple(_cell(value) for value in each.values()) for each in recent]
        table(f"The last {len(recent)} records, newest first", rows, columns)


def summary(records: "Records", last: int) -> dict[str, Any]:
    """What n >= 1 records of one entity say. Times in UTC, amounts in the description's unit."""
    from sentinel.records import SCALE

    single = records["amount"] / SCALE / records["count"]
    events = int(records["count"].sum())
    total = float(records["amount"].sum() / SCALE)
    return {
        "events": events,
        "records": len(records),
        "first": _moment(records["time"][0]),
        "last": _moment(records["time"][-1]),
        "amount": {"sum": total, "mean": total / events, "largest": float(single.max())},
        "known_frauds": int(records["frauds"].sum()),
        "unusual": int(records["unusual"].sum()),
        "recent": [
            {
                "time": _moment(each["time"]),
                "amount": float(each["amount"] / SCALE),
                "events": int(each["count"]),
                "known_frauds": int(each["frauds"]),
                "unusual": int(each["unusual"]),
            }
            for each in (records[::-1][:last] if last else [])
        ],
    }


def _figures(told: dict[str, Any]) -> list[tuple[str, str]]:
    amount = told["amount"]
    return [
        ("transactions", f"{told['events']:,}"),
        ("first", _cell(told["first"])),
        ("last", _cell(told["last"])),
        ("spent in all", _cell(amount["sum"])),
        ("on average", _cell(amount["mean"])),
        ("largest", _cell(amount["largest"])),
        ("known frauds", _cell(told["known_frauds"])),
        ("unusual amounts", _cell(told["unusual"])),
    ]


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value[:19].replace("T", " ")
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"


def _moment(stamp: int) -> str:
    from sentinel.fields import moment

    return moment(int(stamp)).isoformat()


def _of_bundle(uri: str) -> tuple[str, bytes]:
    """Name of the description and snapshot of a bundle.

    :raises SentinelError: it carries none.
    """
    from sentinel.bundle import open_bundle

    opened = open_bundle(uri)
    if opened.profiles is None:
        raise SentinelError(f"{uri} carries no profiles")
    return opened.manifest.description.name, opened.profiles


def _of_snapshot(uri: str, dataset: str) -> tuple[str, bytes]:
    from sentinel.bundle import read_file
    from sentinel.dataset import load_description

    name = load_description(dataset).name
    data = read_file(uri)
    if data is None:
        raise SentinelError(f"{uri}: there is no such file")
    return name, data


def _records(uri: str, dataset: str, entity: str, key: str) -> "Records":
    """:raises UsageError: the description has no such entity."""
    from sentinel.bundle import read_file
    from sentinel.dataset import load_description
    from sentinel.profile_snapshot import restore
    from sentinel.profile_store import MemoryStore
    from sentinel.redis_link import SCHEMES

    if uri.partition("://")[0] in SCHEMES:
        description = load_description(dataset)
        _check_entity(description, entity)
        return asyncio.run(_show(uri, description.name, entity, key))
    bundled = read_file(f"{uri.rstrip('/')}/manifest.json") is not None
    _, data = _of_bundle(uri) if bundled else _of_snapshot(uri, dataset)
    store = MemoryStore()
    restore(data, store)
    known = store.profiles.logs
    if entity not in known:
        raise UsageError(f"{uri} has no profiles of {entity!r}; expected {_one_of(list(known))}")
    return known[entity].records(key)


def _check_entity(description: "DatasetDescription", entity: str) -> None:
    if entity not in description.entities:
        expected = _one_of(description.entities)
        raise UsageError(f"{description.name} has no entity {entity!r}; expected {expected}")


def _one_of(names: Any) -> str:
    return "one of " + ", ".join(names) if names else "none"


async def _load(uri: str, name: str, data: bytes, step: OnStep) -> tuple[int, str]:
    from sentinel.redis_store import digest_of

    async with _checked(uri, name) as store:
        return await store.load(data, _steps("loading", step)), digest_of(data)


async def _dump(uri: str, name: str, step: OnStep) -> bytes:
    async with _checked(uri, name) as store:
        return await store.dump(_steps("reading", step))


async def _show(uri: str, name: str, entity: str, key: str) -> "Records":
    async with _checked(uri, name) as store:
        return await store.show(entity, key)


def _checked(uri: str, name: str) -> "AbstractAsyncContextManager[RedisStore]":
    """A store that can be reached, closed at the end."""
    from contextlib import asynccontextmanager

    from sentinel.redis_store import RedisStore

    @asynccontextmanager
    async def checked() -> Any:
        store = RedisStore(uri, name)
        try:
            await store.check()
            yield store
        finally:
            await store.close()

    return checked()


def _steps(doing: str, step: OnStep) -> Callable[[int, int], object]:
    """Tells a progress bar how many keys are done."""

    def told(done: int, of: int) -> None:
        step(f"{doing}: {done:,} keys" + (f" of {of:,}" if of else ""))

    return told
