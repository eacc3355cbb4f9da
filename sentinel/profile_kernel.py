"""The compiled loops of the profiles: what one entity did, summed up, and one more event noted.

An entity's profile is a *region* of records in time order. Making features is a scan of it from
the newest record back to the end of the longest window: some hundred records of 40 bytes, a
fraction of a microsecond. So there is no running state that could drift: a feature is a function
of the records alone, whoever noted them and in whichever batches they came.

Sums are of scaled integers and everything else is an order statistic, an age or a count, so that
no order of adding can change a bit.

Numba compiles these when they are first called and caches the result beside this file (or in
``NUMBA_CACHE_DIR``). ``sentinel.profiles`` is the only caller.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import numpy as np
from numba import njit

from sentinel.profile_plan import (
    COUNT,
    FIRST_AT,
    FRAUD_RUN,
    FRAUD_RUN_DAYS,
    KNOWN_COUNT,
    KNOWN_FRAUD_RATE,
    KNOWN_FRAUDS,
    MAXIMUM,
    MEAN,
    MEDIAN,
    ORDINARY_FRAUDS,
    RATIO_MAXIMUM,
    RATIO_MEAN,
    RATIO_MEDIAN,
    SINCE_FRAUD,
    SINCE_LAST,
    SPREAD,
    SUM,
    TAIL,
    UNUSUAL_SHARE,
)
from sentinel.profile_regions import LENGTH, START, insert, make_room
from sentinel.records import SCALE

UNUSUAL, LATE, TOO_LATE = 1, 2, 4
"""Marks of an event: its amount was unusual; its entity had a newer one; had one so much newer that
what it should see may have been dropped."""

EVENTS, AMOUNT, HIGHEST, ODD, ODD_DAYS = range(5)
"""Columns of what is summed up over a window: events, their amounts, the highest of them, how many
were unusual, and on how many days."""

KNOWN, FRAUDS, ORDINARY, RUN, RUN_AGE = range(5)
"""Columns of what is summed up behind the label delay: events, frauds, frauds whose amount was not
unusual, frauds of the newest run with nothing else between them, and the age of its oldest."""

_DAY = 86_400_000_000
_HOUR = 3_600_000_000
_LEAST_SPREAD = 0.01
"""Share of the median below which a spread counts as that: amounts that were all equal would make
the smallest difference infinitely unusual."""
_NEVER = np.int64(2**62)
"""The age of what never happened."""


@njit(cache=True, nogil=True)
def advance(
    pool, regions, book, most, order, begin, slots, times, amounts, raw, ids, others, frauds,
    marks, windows, risk_windows, delay, keep, lateness, ops, op_windows, order_window,
    unusual_window, unusual_above, unusual_least, out,
):  # fmt: skip
    """Features of rows ``order[begin:]``, which become records themselves.

    ``order`` sorts the rows by region and time, so that each sees the ones before it. Returns the
    position in ``order`` to go on from: its end, or, when the pool has no room for a larger
    region, earlier. ``marks`` gets ``LATE`` and ``TOO_LATE``, and ``UNUSUAL`` where
    ``unusual_window`` is not negative; the other entities read it.
    """
    past = np.zeros((len(windows), 5), np.int64)
    known = np.zeros((len(risk_windows), 5), np.int64)
    each = np.empty(most, np.int64)
    scratch = np.empty(most, np.int64)
    for at in range(begin, len(order)):
        row = order[at]
        region = regions[slots[row]]
        now = times[row]
        start = region[START]
        end = start + region[LENGTH]
        stop = end
        while stop > start and pool[stop - 1].time > now:
            stop -= 1
        if stop < end:
            marks[row] |= LATE if pool[end - 1].time - now <= lateness else LATE | TOO_LATE
        place = _place_of(pool, start, stop, now, ids[row])
        noted = place >= 0
        if noted:  # it sees what came before it, as it did the first time
            stop = place
        last_age, same_age, size = _look_back(
            pool, start, stop, now, others[row], windows, order_window, past, each
        )
        fraud_age, streak = _look_behind(pool, start, stop, now - delay, risk_windows, known)
        median, spread, tail = _rank(each, size, scratch, amounts[row])
        if unusual_window >= 0:
            count = past[unusual_window, EVENTS]
            mean_of_all = past[unusual_window, AMOUNT] / SCALE
            if count >= unusual_least and raw[row] * count > unusual_above * mean_of_all:
                marks[row] |= UNUSUAL
        for f in range(len(ops)):
            op = ops[f]
            k = op_windows[f]
            if op >= KNOWN_COUNT:
                value = _risk(op, known[k], fraud_age, streak, risk_windows[k])
            elif op >= MEDIAN:
                value = _ranked(op, raw[row], median, spread, tail)
            else:
                value = _usual(op, past[k], amounts[row], raw[row], last_age, same_age, windows[k])
            out[row, f] = value
        if noted:
            continue
        if not make_room(pool, region, book, most, keep):
            return at
        odd = marks[row] & UNUSUAL
        insert(pool, region, now, amounts[row], ids[row], others[row], frauds[row], odd)
    return len(order)


@njit(cache=True, nogil=True)
def _place_of(pool, start, stop, now, name):
    """Where the event stands among the records; -1 if it was not noted yet."""
    place = stop - 1
    while place >= start and pool[place].time == now:
        if pool[place].id == name:
            return place
        place -= 1
    return -1


@njit(cache=True, nogil=True)
def _look_back(pool, start, stop, now, other, windows, order_window, past, each):
    """Sums up each window that ends now into ``past``, from the newest record to the oldest.

    Returns the age of the last event, that of the last one with ``other``, and how many amounts of
    the window ``order_window`` were written to ``each``.
    """
    last_age = _NEVER
    same_age = _NEVER
    odd_day = _NEVER
    count = np.int64(0)
    amount = np.int64(0)
    highest = np.int64(-1)
    odd = np.int64(0)
    odd_days = np.int64(0)
    size = 0
    place = stop - 1
    for k in range(len(windows)):
        since = now - windows[k]
        while place >= start and pool[place].time > since:
            record = pool[place]
            place -= 1
            one = record.amount
            amount += one
            count += record.count
            if record.count > 1:
                one //= record.count
            highest = max(highest, one)
            if record.unusual:
                odd += record.unusual
                day = record.time // _DAY
                odd_days += day != odd_day
                odd_day = day
            if last_age == _NEVER:
                last_age = now - record.time
            if same_age == _NEVER and record.other == other:
                same_age = now - record.time
            if k <= order_window:
                each[size] = one
                size += 1
        past[k, EVENTS] = count
        past[k, AMOUNT] = amount
        past[k, HIGHEST] = highest
        past[k, ODD] = odd
        past[k, ODD_DAYS] = odd_days
    return last_age, same_age, size


@njit(cache=True, nogil=True)
def _look_behind(pool, start, stop, until, windows, known):
    """Sums up each window that ends at ``until``, the label delay before now, into ``known``.

    Returns how long before that the last known fraud was, and how many events came after it.
    """
    fraud_age = _NEVER
    streak = np.int64(0)
    count = np.int64(0)
    frauds = np.int64(0)
    ordinary = np.int64(0)
    run = np.int64(0)
    run_age = _NEVER
    broken = False
    place = stop - 1
    if len(windows):
        while place >= start and pool[place].time > until:
            place -= 1
    for k in range(len(windows)):
        since = until - windows[k]
        while place >= start and pool[place].time > since:
            record = pool[place]
            place -= 1
            count += record.count
            if record.frauds:
                frauds += record.frauds
                ordinary += max(np.int64(record.frauds) - np.int64(record.unusual), np.int64(0))
                if fraud_age == _NEVER:
                    fraud_age = until - record.time
                if not broken:
                    run += record.frauds
                    run_age = until - record.time
                    broken = record.frauds < record.count
            elif fraud_age == _NEVER:
                streak += record.count
            else:
                broken = True
        known[k, KNOWN] = count
        known[k, FRAUDS] = frauds
        known[k, ORDINARY] = ordinary
        known[k, RUN] = run
        known[k, RUN_AGE] = run_age
    return fraud_age, streak


@njit(cache=True, nogil=True)
def _rank(each, size, scratch, amount):
    """Median and spread (1.4826 times the median distance from it) of past amounts, and the share
    of them, with this one, that are as high as it."""
    if not size:
        return np.nan, np.nan, 1.0
    above = 1
    for i in range(size):  # sorted into scratch: there are some dozens
        one = each[i]
        above += one >= amount
        place = i
        while place > 0 and scratch[place - 1] > one:
            scratch[place] = scratch[place - 1]
            place -= 1
        scratch[place] = one
    middle = size // 2
    twice = 2 * scratch[middle] if size % 2 else scratch[middle - 1] + scratch[middle]
    # Distances grow outwards from the middle: merging both sides up to the middle finds theirs.
    left = middle - 1
    right = middle
    before = np.int64(0)
    distance = np.int64(0)
    for _ in range(middle + 1):
        below = abs(2 * scratch[left] - twice) if left >= 0 else _NEVER
        beyond = abs(2 * scratch[right] - twice) if right < size else _NEVER
        before = distance
        if below < beyond:
            distance = below
            left -= 1
        else:
            distance = beyond
            right += 1
    doubled = 2 * distance if size % 2 else before + distance
    return twice / (2 * SCALE), 1.4826 * doubled / (4 * SCALE), above / (size + 1)


@njit(cache=True, nogil=True)
def _usual(op, past, amount, raw, last_age, same_age, window):  # noqa: PLR0911 (a table)
    count = past[EVENTS]
    if op == COUNT:
        return count + 1.0
    if op == SUM:
        return (past[AMOUNT] + amount) / SCALE
    if op == MEAN:
        return (past[AMOUNT] + amount) / SCALE / (count + 1)
    if op == MAXIMUM:
        return past[HIGHEST] / SCALE if count else np.nan
    if op == RATIO_MEAN:
        return raw * count / (past[AMOUNT] / SCALE) if past[AMOUNT] > 0 else np.nan
    if op == RATIO_MAXIMUM:
        return raw / (past[HIGHEST] / SCALE) if past[HIGHEST] > 0 else np.nan
    if op == SINCE_LAST:
        return last_age / _HOUR if last_age < window else np.nan
    if op == FIRST_AT:
        return 1.0 if same_age >= window else 0.0
    if op == UNUSUAL_SHARE:
        return past[ODD] / count if count else 0.0
    return past[ODD_DAYS] + 0.0


@njit(cache=True, nogil=True)
def _ranked(op, raw, median, spread, tail):
    if op == MEDIAN:
        return median
    if op == SPREAD:
        return spread
    if op == TAIL:
        return tail
    if not median > 0:
        return np.nan
    if op == RATIO_MEDIAN:
        return raw / median
    return (raw - median) / max(spread, _LEAST_SPREAD * median)


@njit(cache=True, nogil=True)
def _risk(op, known, fraud_age, streak, window):  # noqa: PLR0911 (a table)
    if op == KNOWN_COUNT:
        return known[KNOWN] + 0.0
    if op == KNOWN_FRAUDS:
        return known[FRAUDS] + 0.0
    if op == KNOWN_FRAUD_RATE:
        return known[FRAUDS] / known[KNOWN] if known[KNOWN] else 0.0
    if op == ORDINARY_FRAUDS:
        return known[ORDINARY] + 0.0
    if op == FRAUD_RUN:
        return known[RUN] + 0.0
    if fraud_age >= window:
        return np.nan
    if op == FRAUD_RUN_DAYS:
        return known[RUN_AGE] / _DAY
    return fraud_age / _DAY if op == SINCE_FRAUD else streak + 0.0


@njit(cache=True, nogil=True)
def label(pool, regions, slots, times, ids, new, old):
    """Marks events as fraud (1) or not (0), one of each region in ``slots``.

    One that has been merged cannot be told from its neighbours: the sum that holds it moves from
    ``old`` to ``new``. One that has been dropped is passed over.
    """
    for row in range(len(slots)):
        region = regions[slots[row]]
        stop = region[START] + region[LENGTH]
        low = region[START]
        high = stop
        while low < high:
            middle = (low + high) // 2
            if pool[middle].time < times[row]:
                low = middle + 1
            else:
                high = middle
        place = low
        while place < stop and pool[place].time == times[row] and pool[place].id != ids[row]:
            place += 1
        if place < stop and pool[place].time == times[row]:
            pool[place].frauds = new[row]
        elif low < stop and pool[low].count > 1:
            held = np.int64(pool[low].frauds) + new[row] - old[row]
            pool[low].frauds = min(max(held, 0), np.int64(pool[low].count))
