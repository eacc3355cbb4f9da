"""Card transactions made up by the Fraud Detection Handbook's rules, to try and train on.

Written from the prose of "Reproducible Machine Learning for Credit Card Fraud Detection -
Practical Handbook" (Le Borgne, Siblini, Lebichot, Bontempi, 2022), chapter "Simulated dataset".
Numbers without another source come from that chapter. Where it is silent, or cannot hold here:

- a customer out of reach of every terminal uses the nearest one;
- the published 2 terminals and 3 customers attacked a day belong to 10,000 and 5,000 of them; other
  sizes keep that proportion on average (0.2 a day is one on every fifth day, by chance), so that
  about 0.8% of any table is fraud;
- "a third" of a customer's transactions is chance 1/3 for each of them, and a customer drawn twice
  is not attacked twice as much. So a day needs to know nothing of later days, and the first k days
  of a longer simulation are the k-day simulation, frauds included;
- times are whole seconds, amounts whole cents; "the next 28 days" begin on the day of the draw.

Nothing depends on the clock or the machine. NumPy may change how it turns a seed into draws
between its versions (NEP 19), so "the same table" means with the same locked dependencies.
"""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SIDE = 100.0
"""Length of the side of the square that homes and terminals lie in; the unit has no name."""
RADIUS = 5.0
"""How far from home a customer shops, in the unit of ``SIDE``."""

DAY_SECONDS = 86_400
TIME_SPREAD_SECONDS = 20_000.0
"""Standard deviation of the time of day around noon."""

LOW_MEAN_AMOUNT, HIGH_MEAN_AMOUNT = 5.0, 100.0
HIGHEST_DAILY_RATE = 4.0
"""The busiest customers' mean transactions a day; the idlest have 0."""

LEGITIMATE, LARGE_AMOUNT, TERMINAL_TAKEN, CARD_TAKEN = range(4)
"""The values of column ``scenario``, in the order in which a later one overwrites an earlier."""

LARGE_CENTS = 220_00
"""An amount above this is fraud: the simulation's check that a detector finds the obvious."""
TERMINAL_TAKEN_DAYS = 28
CARD_TAKEN_DAYS = 14
CARD_TAKEN_SHARE = 1 / 3
CARD_TAKEN_FACTOR = 5

TERMINALS_TAKEN_A_DAY = 2 / 10_000
"""Draws a day for each terminal in the population."""
CARDS_TAKEN_A_DAY = 3 / 5_000
"""Draws a day for each customer in the population."""

PAIRS_AT_ONCE = 1_000_000
"""Customer-terminal pairs expected in one step of the neighbour search: about 50 MB of work."""

SCHEMA = pa.schema(
    [
        ("transaction_id", pa.string()),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("customer_id", pa.string()),
        ("terminal_id", pa.string()),
        ("amount", pa.float64()),
        ("is_fraud", pa.int8()),
        ("scenario", pa.int8()),
    ]
)


@dataclass(frozen=True, slots=True)
class Simulation:
    """What to simulate; a value out of range is a ``ValueError`` when it is made."""

    days: int
    """Calendar days, at least 1. The handbook has 183; attacks take 28 to reach a steady rate."""
    customers: int
    """Card holders, at least 1, each with 2 transactions a day on average. Handbook: 5,000."""
    terminals: int
    """Places that take cards, at least 1. Handbook: 10,000."""
    seed: int
    """Any integer from 0 up; the same one gives the same table."""
    start: date = date(2018, 4, 1)
    """First day, in UTC; the default is the handbook's."""

    def __post_init__(self) -> None:
        for name, least in (("days", 1), ("customers", 1), ("terminals", 1), ("seed", 0)):
            value = getattr(self, name)
            if value < least:
                raise ValueError(f"{name} is {value}; expected an integer of at least {least}")


class Reach(NamedTuple):
    """Which terminals each of n customers uses: at least one each.

    Customer i's are ``terminals[first[i] : first[i] + size[i]]``, ascending.
    """

    first: Ints
    size: Ints
    terminals: NDArray[np.int32]


class Population(NamedTuple):
    """The n customers' habits, fixed for the whole simulation."""

    mean_amount: Floats
    """(n,) in currency units; the standard deviation is half of it."""
    daily_rate: Floats
    """(n,) mean transactions a day."""
    reach: Reach


class Day(NamedTuple):
    """One day's transactions as columns, in the order of the table."""

    second: Ints
    """Since midnight UTC."""
    customer: Ints
    terminal: Ints
    cents: Ints


def simulate(settings: Simulation, on_day: Callable[[int], None] | None = None) -> pa.Table:
    """All transactions in order of time, ties by customer; columns as in ``SCHEMA``.

    ``amount`` is in currency units with whole cents, ``is_fraud`` 0 or 1, ``scenario`` 0 for a
    legitimate transaction, else why it is fraud (1 to 3). Ids are "0", "1", ... in order of time.
    ``on_day`` is told after each day how many days are done. Memory is the table's, plus 4 bytes
    for each terminal in each customer's reach, at first twice that (50,000 customers and 100,000
    terminals: 150 MB, at first 390).
    """
    # A generator for each aspect and each day, so that more days do not change the customers, nor
    # what happened on the days before.
    people, places, *daily = np.random.SeedSequence(settings.seed).spawn(5)
    population = draw_population(settings, people, places)
    spending, terminals_taken, cards_taken = (aspect.spawn(settings.days) for aspect in daily)
    terminals = Attacks(settings.terminals, TERMINALS_TAKEN_A_DAY, TERMINAL_TAKEN_DAYS)
    cards = Attacks(settings.customers, CARDS_TAKEN_A_DAY, CARD_TAKEN_DAYS)

    batches: list[pa.RecordBatch] = []
    first_id = 0
    for day in range(settings.days):
        spent = spend(population, _generator(spending[day]))
        terminals.begin(_generator(terminals_taken[day]))
        thieves = _generator(cards_taken[day])
        cards.begin(thieves)
        scenario, cents = commit_frauds(spent, terminals.under_way, cards.under_way, thieves)
        midnight = np.datetime64(settings.start, "s") + np.timedelta64(day, "D")
        batches.append(_batch(first_id, midnight, spent._replace(cents=cents), scenario))
        first_id += len(cents)
        if on_day is not None:
            on_day(day + 1)
    return pa.Table.from_batches(batches, schema=SCHEMA)


def draw_population(
    settings: Simulation, people: np.random.SeedSequence, places: np.random.SeedSequence
) -> Population:
    """The customers' homes and habits, and the terminals around them."""
    rng = _generator(people)
    homes = rng.uniform(0, SIDE, (settings.customers, 2))
    mean_amount = rng.uniform(LOW_MEAN_AMOUNT, HIGH_MEAN_AMOUNT, settings.customers)
    daily_rate = rng.uniform(0, HIGHEST_DAILY_RATE, settings.customers)
    sites = _generator(places).uniform(0, SIDE, (settings.terminals, 2))
    return Population(mean_amount, daily_rate, find_reach(homes, sites))


def find_reach(homes: Floats, sites: Floats) -> Reach:
    """The terminals within ``RADIUS`` of each home, or else the nearest one.

    ``homes`` (n, 2) and ``sites`` (m, 2), spread evenly over the square. Works through the homes
    in steps, because one search over all of them would hold 24 bytes a pair and more.
    """
    tree = cKDTree(sites)
    expected_each = len(sites) * np.pi * RADIUS**2 / SIDE**2
    step = max(1, int(PAIRS_AT_ONCE / max(1.0, expected_each)))
    steps = [_reach_of(homes[at : at + step], tree) for at in range(0, len(homes), step)]
    size = np.concatenate([sizes for sizes, _ in steps])
    terminals = np.concatenate([found for _, found in steps])
    return Reach(np.cumsum(size) - size, size, terminals)


def _reach_of(homes: Floats, tree: cKDTree) -> tuple[Ints, NDArray[np.int32]]:
    """How many terminals each home reaches, and those, home by home."""
    pairs = cKDTree(homes).sparse_distance_matrix(tree, RADIUS, output_type="ndarray")
    size = np.bincount(pairs["i"], minlength=len(homes))
    alone = np.flatnonzero(size == 0)
    _, nearest = tree.query(homes[alone])
    size[alone] = 1
    home = np.concatenate([pairs["i"], alone]).astype(np.int64)
    terminal = np.concatenate([pairs["j"], nearest]).astype(np.int64)
    # One number a pair sorts by home, then terminal, whatever order the tree found them in.
    return size, (np.sort(home * tree.n + terminal) % tree.n).astype(np.int32)


def spend(population: Population, rng: np.random.Generator) -> Day:
    """What all customers buy on one day, honestly, in order of time and then customer."""
    count = rng.poisson(population.daily_rate)
    customer = np.repeat(np.arange(len(count)), count)
    second = np.floor(rng.normal(DAY_SECONDS / 2, TIME_SPREAD_SECONDS, len(customer)))
    amount = draw_amounts(population.mean_amount[customer], rng)
    reach = population.reach
    choice = reach.first[customer] + rng.integers(reach.size[customer])
    today = np.flatnonzero((second >= 0) & (second < DAY_SECONDS))
    # Rows come customer by customer, so a stable sort breaks ties by customer.
    order = today[np.argsort(second[today], kind="stable")]
    return Day(
        second=second[order].astype(np.int64),
        customer=customer[order],
        terminal=reach.terminals[choice[order]].astype(np.int64),
        cents=np.rint(amount[order] * 100).astype(np.int64),
    )


def draw_amounts(mean: Floats, rng: np.random.Generator) -> Floats:
    """An amount >= 0 for each mean: Normal(mean, mean / 2), or uniform up to twice the mean."""
    amount = rng.normal(mean, mean / 2)
    negative = np.flatnonzero(amount < 0)
    amount[negative] = rng.uniform(0, 2 * mean[negative])
    return amount


class Attacks:
    """Which members of a population (terminals or cards) are in a thief's hands."""

    def __init__(self, members: int, rate: float, lasts: int) -> None:
        """``rate`` is draws a day for each member; an attack ``lasts`` days, the first included."""
        self._lasts = lasts
        self._draws, self._one_more = divmod(min(float(members), rate * members), 1)
        self._days_left: Ints = np.zeros(members, dtype=np.int64)

    @property
    def under_way(self) -> Bools:
        """(members,) true where the member is attacked on the day begun last."""
        return self._days_left > 0

    def begin(self, rng: np.random.Generator) -> None:
        """Let a day pass, and draw those whose attack begins on the new one, or begins again."""
        self._days_left = np.maximum(self._days_left - 1, 0)
        draws = int(self._draws) + int(rng.random() < self._one_more)
        drawn = rng.choice(len(self._days_left), draws, replace=False, shuffle=False)
        self._days_left[drawn] = self._lasts


def commit_frauds(
    day: Day, terminals_taken: Bools, cards_taken: Bools, rng: np.random.Generator
) -> tuple[NDArray[np.int8], Ints]:
    """The scenario and the amount in cents of each of the day's transactions.

    ``terminals_taken`` and ``cards_taken`` say who is attacked today.
    """
    misused = cards_taken[day.customer] & (rng.random(len(day.cents)) < CARD_TAKEN_SHARE)
    scenario = np.full(len(day.cents), LEGITIMATE, dtype=np.int8)
    scenario[day.cents > LARGE_CENTS] = LARGE_AMOUNT
    scenario[terminals_taken[day.terminal]] = TERMINAL_TAKEN
    scenario[misused] = CARD_TAKEN
    return scenario, np.where(misused, day.cents * CARD_TAKEN_FACTOR, day.cents)


def write(table: pa.Table, path: Path) -> None:
    """Write ``table`` as Parquet, whole or not at all: ``path`` never names half a file.

    An existing file is replaced; a failure leaves it as it was and nothing beside it.
    """
    # In the same folder, since a rename is atomic only within one file system.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        pq.write_table(table, partial, compression="zstd")
        os.replace(partial, path)
    except BaseException:  # Control-C too: the half-written file is ours to remove
        partial.unlink(missing_ok=True)
        raise


def _generator(seed: np.random.SeedSequence) -> np.random.Generator:
    """PCG64 by name, as ``default_rng`` may become another."""
    return np.random.Generator(np.random.PCG64(seed))


def _batch(
    first_id: int, midnight: np.datetime64, day: Day, scenario: NDArray[np.int8]
) -> pa.RecordBatch:
    """One day's rows in the table's schema."""
    ids = np.arange(first_id, first_id + len(day.cents))
    times = (midnight + day.second.astype("timedelta64[s]")).astype("datetime64[us]")
    columns = [
        pa.array(ids).cast(pa.string()),
        pa.array(times).cast(SCHEMA.field("timestamp").type),
        pa.array(day.customer).cast(pa.string()),
        pa.array(day.terminal).cast(pa.string()),
        pa.array(day.cents / 100),  # the float64 nearest to the decimal amount
        pa.array((scenario != LEGITIMATE).astype(np.int8)),
        pa.array(scenario),
    ]
    return pa.record_batch(columns, schema=SCHEMA)
