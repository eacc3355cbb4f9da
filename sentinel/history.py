"""Profiles from tables: how a history becomes what is known of every entity.

Training makes the profiles that go into a bundle; ``evaluate`` and ``score`` go on from them, and
``--history FILE`` makes others. All of them note labelled rows here.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sentinel.bundle import Bundle
from sentinel.dataset import DatasetDescription
from sentinel.feature_specs import microseconds_of
from sentinel.features import FeatureSet, feature_set
from sentinel.fields import moment
from sentinel.profile_plan import ProfilePlan
from sentinel.profile_snapshot import restore, snapshot
from sentinel.profile_store import MemoryStore
from sentinel.profiles import Events
from sentinel.records import event_ids, name_hashes
from sentinel.table import LabelledTable, read_table
from sentinel.transactions import Transactions

LABELS_AFTER = 30 * 86_400_000_000
"""Microseconds after the label delay in which a label of a transaction in a snapshot still finds
it."""

COLD = "cold"
"""Where profiles come from when they come from nowhere."""

FILE = "file"
"""Where they come from when they are the rows of the judged file itself, before those judged."""


class History:
    """Profiles that tables are noted in, of one description that has a ``plan``."""

    def __init__(
        self, description: DatasetDescription, plan: ProfilePlan, labels_come: bool = True
    ) -> None:
        """``labels_come``: somebody may later tell what these transactions turned out to be, so
        where each is must be remembered; that costs more than the profiles do."""
        self._labels_come = labels_come
        self._description = description
        self._plan = plan
        self._delay = microseconds_of(description.behaviour.label_delay)
        self.store = MemoryStore()
        self.source = COLD
        """Where the profiles are from: ``cold``, ``bundle``, ``history`` or ``file``."""
        self.newest: int | None = None
        """Time of the newest event they came with."""

    def start_from(self, bundle: Bundle, file: str | None = None) -> None:
        """Takes the profiles of this labelled table, or else those in the bundle, if it has any.

        :raises TableError: the table cannot be used.
        :raises BundleError: the profiles in the bundle cannot be.
        """
        if file is not None:
            table = read_table(file, self._description, both_kinds=False)
            self.note(table.transactions, table.labels, table.named)
            self.source, self.newest = "history", self.store.profiles.newest
        elif (packed := bundle.profiles) is not None:
            self.newest = restore(packed, self.store, seen=self._labels_come)
            self.source = "bundle"

    def note(
        self,
        transactions: Transactions,
        labels: NDArray[np.int8] | None = None,
        named: bool = True,
    ) -> NDArray[np.float32]:
        """(n, b) what the profiles say of these rows, which are then noted with their labels.

        ``named``: their ids are their own, so that a label may come for them.
        """
        names = name_hashes(transactions.ids)
        events = self._events(transactions, names, labels)
        behaviour, _ = self.store.profiles.advance(self._plan, events)
        if named and self._labels_come:
            self._see(names, events)
        return behaviour

    def features_of(self, table: LabelledTable, features: FeatureSet) -> NDArray[np.float32]:
        """(n, f) features of a table's rows.

        The rows of its file before them are noted too, less those that the profiles have already.
        Where the table begins before the profiles end, its own file is all that they rest on.
        """
        past = table.past
        first = table.transactions.times
        assert first is not None
        if self.newest is not None and len(first) and first[0] <= self.newest:
            # A snapshot remembers what later rows can see, not what these could.
            self.store, self.newest = MemoryStore(), None
            self.source = FILE if past is not None and len(past) else COLD
        if past is not None and len(past):
            times = past.transactions.times
            assert times is not None
            new = slice(0 if self.newest is None else int(np.searchsorted(times, self.newest + 1)),
                        len(times))  # fmt: skip
            self.note(past.transactions.take(new), past.labels[new], table.named)
        return features(
            table.transactions, self.note(table.transactions, table.labels, table.named)
        )

    def packed(self) -> bytes:
        """A snapshot with all that can still matter to what comes after the newest event."""
        newest = self.store.profiles.newest or 0
        return snapshot(self.store, newest - max(each.keep for each in self._plan.entities))

    def _events(
        self,
        transactions: Transactions,
        names: NDArray[np.int64],
        labels: NDArray[np.int8] | None,
    ) -> Events:
        assert transactions.times is not None
        size = len(transactions)
        return Events(
            times=transactions.times,
            amounts=transactions.numbers[:, self._description.amount_at],
            keys={name: transactions.entities[name] for name in self._plan.keys},
            ids=event_ids(names),
            frauds=np.zeros(size, np.uint8) if labels is None else labels.astype(np.uint8),
        )

    def _see(self, names: NDArray[np.int64], events: Events) -> None:
        """Remembers the rows that a label may still come for."""
        if len(events):
            since = events.times[-1] - self._delay - LABELS_AFTER
            rows = np.flatnonzero(events.times > since)
            self.store.seen.add(names[rows], events.take(rows))


def table_features(
    table: LabelledTable, history: History | None = None
) -> tuple[NDArray[np.float32], History | None]:
    """(n, f) features of a table, and the profiles after it.

    ``history``: what to go on from; without it profiles begin with the table's own past. ``None``
    where the description has no profiles.
    """
    features = feature_set(table.description)
    if features.plan is None:
        return features(table.transactions), None
    history = history or History(table.description, features.plan)
    return history.features_of(table, features), history


def history_of(bundle: Bundle, file: str | None = None, labels_come: bool = True) -> History | None:
    """The profiles that come with a bundle, or of a labelled table instead of them; ``None`` where
    the bundle's features need none. ``labels_come``: see ``History``.

    :raises TableError: the table cannot be used.
    """
    plan = feature_set(bundle.manifest.description).plan
    if plan is None:
        return None
    history = History(bundle.manifest.description, plan, labels_come)
    history.start_from(bundle, file)
    return history


def as_of_new_entities(
    description: DatasetDescription, plan: ProfilePlan, transactions: Transactions
) -> NDArray[np.float32]:
    """(n, b) what profiles would say of these rows if none of their entities had been seen."""
    keys = pa.array(np.arange(len(transactions))).cast(pa.string())
    alone = replace(transactions, entities=dict.fromkeys(transactions.entities, keys))
    return History(description, plan, labels_come=False).note(alone)


def end_of(history: History) -> str:
    """The time of the newest event in these profiles, for people."""
    newest = history.store.profiles.newest
    return "nothing yet" if newest is None else moment(newest).isoformat()
