"""Where two objects differ, as paths."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec


class Difference(msgspec.Struct, frozen=True):
    """What an object ``has`` at ``path``, and what it should have; None is nothing."""

    path: str
    has: Any
    wants: Any

    def __str__(self) -> str:
        return f"{self.path}: is {_short(self.has)}, should be {_short(self.wants)}"


def differences(has: Any, wants: Any, path: str = "") -> Iterator[Difference]:
    """The values that are not the same, outermost where one side has nothing. None, an empty list
    and an empty mapping all say that there is nothing."""
    if isinstance(has, Mapping) and isinstance(wants, Mapping):
        for key in dict.fromkeys([*has, *wants]):
            inner = f"{path}.{key}" if path else str(key)
            yield from differences(has.get(key), wants.get(key), inner)
    elif isinstance(has, list) and isinstance(wants, list):
        for at in range(max(len(has), len(wants))):
            ours, theirs = (side[at] if at < len(side) else None for side in (has, wants))
            yield from differences(ours, theirs, f"{path}[{_label(ours, theirs) or at}]")
    elif has != wants and not (has in EMPTY and wants in EMPTY):
        yield Difference(path, has, wants)


EMPTY: tuple[Any, ...] = (None, [], {})


def _label(*members: Any) -> str | None:
    """Kubernetes' lists are read by their members' names where they have them."""
    for member in members:
        if isinstance(member, Mapping):
            for key in ("groupName", "name"):
                if isinstance(member.get(key), str):
                    return str(member[key])
    return None


def _short(value: Any) -> str:
    text = "absent" if value is None else repr(value)
    return text if len(text) <= 90 else f"{text[:87]}…"
