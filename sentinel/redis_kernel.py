"""The compiled loop that makes profiles of what Redis keeps: a heap of records in any order.

Numba compiles it when it is first called and caches the result, as ``profile_kernel``.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

import numpy as np
from numba import njit

from sentinel.profile_regions import merge


@njit(cache=True, nogil=True)
def tidy(records, lengths, keep, most, out, sizes, labels, label_sizes, waste):
    """Puts the records of each of k entities in order; ``lengths`` (k,) says whose are whose.

    What must come out is in ``out``, ``sizes[k]`` records each without gaps: events by time and
    then arrival, each once, none ``keep`` older than the newest, at most ``most``, and labelled.
    Labels whose events are not there are in ``labels``, ``label_sizes[k]`` each. ``waste`` gets
    how many records of each entity are to spare: all where reading them cost more than it should.
    """
    region = np.zeros(3, np.int64)
    first = 0
    begin = 0
    left = 0
    for at in range(len(lengths)):
        stop, loose, moved = _sort(records, first, first + lengths[at], out, begin, labels, left)
        first += lengths[at]
        oldest = out[stop - 1].time - keep if stop > begin else np.int64(-(2**63))
        stop = _expire(out, begin, stop, oldest)
        loose = _apply(out, begin, stop, labels, left, loose, oldest)
        waste[at] = lengths[at] - (stop - begin) - (loose - left)
        if stop - begin > most or moved > 8 * lengths[at]:
            waste[at] = lengths[at]
        while stop - begin > most:
            region[0], region[1] = begin, most
            merge(out, region)
            gone = most - region[1]
            for place in range(begin + most, stop):
                out[place - gone] = out[place]
            stop -= gone
        sizes[at] = stop - begin
        label_sizes[at] = loose - left
        begin = stop
        left = loose


@njit(cache=True, nogil=True)
def _sort(records, first, last, out, begin, labels, left):
    """Events into ``out[begin:]``, labels into ``labels[left:]``; the two ends, and how far records
    had to move."""
    stop = begin
    loose = left
    moved = 0
    for at in range(first, last):
        record = records[at]
        if record.count == 0:
            loose = _sort_label(record, labels, left, loose)
            continue
        place = stop
        while place > begin and out[place - 1].time > record.time:
            place -= 1
        same = place - 1
        while same >= begin and out[same].time == record.time:
            if record.count == 1 and out[same].count == 1 and out[same].id == record.id:
                break
            same -= 1
        if same >= begin and out[same].time == record.time:  # sent again: it counts once
            out[same].frauds = max(out[same].frauds, record.frauds)
            continue
        for i in range(stop, place, -1):
            out[i] = out[i - 1]
        moved += stop - place
        out[place] = record
        stop += 1
    return stop, loose, moved


@njit(cache=True, nogil=True)
def _sort_label(label, labels, left, loose):
    """Of labels of the same event and time the later one says what it is, the first what it was."""
    place = loose
    while place > left and labels[place - 1].amount > label.amount:
        place -= 1
    same = place - 1
    while same >= left and labels[same].amount == label.amount:
        if labels[same].time == label.time and labels[same].id == label.id:
            labels[same].frauds = label.frauds
            return loose
        same -= 1
    for i in range(loose, place, -1):
        labels[i] = labels[i - 1]
    labels[place] = label
    return loose + 1


@njit(cache=True, nogil=True)
def _expire(out, begin, stop, oldest):
    gone = 0
    while begin + gone < stop and out[begin + gone].time <= oldest:
        gone += 1
    if gone:
        for place in range(begin, stop - gone):
            out[place] = out[place + gone]
    return stop - gone


@njit(cache=True, nogil=True)
def _apply(out, begin, stop, labels, left, loose, oldest):
    """Marks events, oldest label first, as ``profile_kernel.label`` does; the new end of labels:
    of those whose event has not come yet."""
    kept = left
    for at in range(left, loose):
        label = labels[at]
        low = begin
        high = stop
        while low < high:
            middle = (low + high) // 2
            if out[middle].time < label.time:
                low = middle + 1
            else:
                high = middle
        place = low
        while place < stop and out[place].time == label.time and out[place].id != label.id:
            place += 1
        if place < stop and out[place].time == label.time:
            out[place].frauds = label.frauds
        elif low < stop and out[low].count > 1:
            held = np.int64(out[low].frauds) + label.frauds - label.unusual
            out[low].frauds = min(max(held, 0), np.int64(out[low].count))
        elif label.time > oldest:
            labels[kept] = label
            kept += 1
    return kept
