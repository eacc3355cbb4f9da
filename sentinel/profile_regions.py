"""Regions: the memory of profiles. Compiled, as ``profile_kernel``, which scans them.

A *pool* of records is given out in regions of 4, 8, 16 … records, one an entity; a region that is
full moves to one of twice the size, and what it leaves is used again.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from numba import njit

START, LENGTH, CAPACITY = 0, 1, 2
"""Columns of the table of regions."""

USED = 0
"""Cell of the pool's bookkeeping: records of the pool given out. Cell 1 + c is the first free
region of 2**c records; a free region's first record holds the start of the next in ``id``."""

SMALLEST = 2
"""log2 of the smallest region."""


@njit(cache=True, nogil=True)
def reserve(pool, regions, book, most, slots, sizes):
    """Gives the empty regions ``slots`` room for ``sizes`` records; returns how many got it."""
    for at in range(len(slots)):
        region = regions[slots[at]]
        while region[CAPACITY] < min(sizes[at], most):
            if not grow(pool, region, book):
                return at
    return len(slots)


@njit(cache=True, nogil=True)
def release(pool, region, book):
    """Takes a region's room back."""
    if region[CAPACITY]:
        free(pool, book, region[START], region[CAPACITY])
    region[:] = 0


@njit(cache=True, nogil=True)
def fill(pool, regions, slots, lengths, records):
    """Copies ``records`` into the regions ``slots``, so many to each; the last that fit."""
    begin = 0
    for at in range(len(slots)):
        region = regions[slots[at]]
        size = min(lengths[at], region[CAPACITY])
        first = begin + lengths[at] - size
        for i in range(size):
            pool[region[START] + i] = records[first + i]
        region[LENGTH] = size
        begin += lengths[at]


@njit(cache=True, nogil=True)
def insert(pool, region, time, amount, name, other, fraud, unusual):
    place = region[START] + region[LENGTH]
    while place > region[START] and pool[place - 1].time > time:
        pool[place] = pool[place - 1]
        place -= 1
    record = pool[place]
    record.time = time
    record.amount = amount
    record.id = name
    record.other = other
    record.count = 1
    record.frauds = fraud
    record.unusual = unusual
    region[LENGTH] += 1


@njit(cache=True, nogil=True)
def make_room(pool, region, book, most, keep):
    """Room for one more record in a region of at most ``most``; False where the pool has none."""
    if region[LENGTH] < region[CAPACITY] or expire(pool, region, keep):
        return True
    if region[CAPACITY] < most:
        return grow(pool, region, book)
    merge(pool, region)
    return True


@njit(cache=True, nogil=True)
def expire(pool, region, keep):
    """Drops records ``keep`` older than the newest; returns how many."""
    start = region[START]
    length = region[LENGTH]
    last = pool[start + length - 1].time - keep
    gone = 0
    while gone < length and pool[start + gone].time <= last:
        gone += 1
    if gone:
        for i in range(length - gone):
            pool[start + i] = pool[start + i + gone]
        region[LENGTH] = length - gone
    return gone


@njit(cache=True, nogil=True)
def merge(pool, region):
    """Makes room by joining the records of the older half in pairs."""
    start = region[START]
    half = region[LENGTH] // 4 * 2
    for i in range(half // 2):
        first = pool[start + 2 * i]
        second = pool[start + 2 * i + 1]
        into = pool[start + i]
        time = second.time
        amount = first.amount + second.amount
        count = first.count + second.count
        frauds = first.frauds + second.frauds
        unusual = first.unusual + second.unusual
        other = second.other
        into.time = time
        into.amount = amount
        into.count = count
        into.frauds = frauds
        into.unusual = unusual
        into.other = other
        into.id = 0
    for i in range(half, region[LENGTH]):
        pool[start + i - half // 2] = pool[start + i]
    region[LENGTH] -= half // 2


@njit(cache=True, nogil=True)
def grow(pool, region, book):
    """Moves a region to one of twice the size; False where the pool has no room for that."""
    size = region[CAPACITY] * 2 if region[CAPACITY] else 1 << SMALLEST
    level = 0
    while 1 << level < size:
        level += 1
    start = book[1 + level]
    if start >= 0:
        book[1 + level] = pool[start].id
    else:
        start = book[USED]
        if start + size > len(pool):
            return False
        book[USED] = start + size
    for i in range(region[LENGTH]):
        pool[start + i] = pool[region[START] + i]
    if region[CAPACITY]:
        free(pool, book, region[START], region[CAPACITY])
    region[START] = start
    region[CAPACITY] = size
    return True


@njit(cache=True, nogil=True)
def free(pool, book, start, size):
    level = 0
    while 1 << level < size:
        level += 1
    pool[start].id = book[1 + level]
    book[1 + level] = start
