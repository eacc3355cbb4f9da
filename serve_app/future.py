"""Times that have not come yet: a clock that runs ahead would make everything after it look old."""

import time

from sentinel.dataset import ROW_ORDER
from sentinel.fields import moment
from sentinel.parsing import Parsed
from serve_app.served import ServedBundle


class FutureCheck:
    """Refuses transactions further ahead of this machine's clock than ``skew`` seconds."""

    def __init__(self, skew: float) -> None:
        self._skew = skew

    @property
    def latest(self) -> int:
        """The latest time accepted now, in microseconds since 1970."""
        return int((time.time() + self._skew) * 1e6)

    @property
    def expected(self) -> str:
        """What is accepted, for people."""
        return no_later_than(self.latest)

    def __call__(self, served: ServedBundle, parsed: Parsed) -> Parsed:
        """The same with such rows refused."""
        name = served.judge.description.time
        times = parsed.transactions.times
        if name == ROW_ORDER or times is None or not len(times):
            return parsed
        latest = self.latest
        if int(times.max()) <= latest:
            return parsed
        late = times > latest
        shown = [moment(int(stamp)).isoformat() for stamp in times[late].tolist()]
        return parsed.refuse(late, name, shown, self.expected)


def no_later_than(latest: int) -> str:
    """What is accepted up to this time (microseconds since 1970), for people."""
    return f"a time no later than {moment(latest).isoformat(timespec='seconds')} (now)"
