"""The metrics of the autoscaling policy, declared once. ``docs/metrics.md`` lists them.

They are Ray's gauges and not Serve's: Serve's take their tags from a replica, and the policy runs
in Serve's controller.
"""

from ray.util.metrics import Gauge

from sentinel.scaling import Verdict


class ScalingMetrics:
    """What decisions are made from, and what is decided. Declared once, in Serve's controller."""

    def __init__(self) -> None:
        def gauge(name: str, description: str, *more: str) -> Gauge:
            return Gauge(name, description=description, tag_keys=("application", *more))

        self._waiting = gauge("sentinel_scaling_waiting_rows", "transactions that wait, on average")
        self._flying = gauge(
            "sentinel_scaling_flying_rows", "transactions being scored, on average"
        )
        self._arrivals = gauge(
            "sentinel_scaling_arrivals", "transactions a second that arrive, refused ones too"
        )
        self._demand = gauge("sentinel_scaling_demand", "transactions a second that must pass")
        self._blind = gauge("sentinel_scaling_blind", "1 while no good report says what waits")
        self._target = gauge(
            "sentinel_scaling_target", "replicas that there should be", "deployment"
        )
        self._need = gauge(
            "sentinel_scaling_need", "replicas that the demand takes, in fractions", "deployment"
        )
        self._row_ms = gauge(
            "sentinel_scaling_row_ms", "milliseconds a transaction takes one replica", "deployment"
        )
        self._batch_ms = gauge(
            "sentinel_scaling_batch_ms", "milliseconds a batch takes beside", "deployment"
        )

    def show(self, application: str, verdict: Verdict) -> None:
        """Sets all that is known; what is not vanishes from the page after a while."""
        tags = {"application": application}
        self._blind.set(float(verdict.load is None), tags)
        if verdict.load is not None:
            self._waiting.set(verdict.load.waiting, tags)
            self._flying.set(verdict.load.flying, tags)
            self._arrivals.set(verdict.load.arrivals, tags)
        if verdict.demand is not None:
            self._demand.set(verdict.demand, tags)
        for stage in verdict.stages:
            each = {**tags, "deployment": stage.name}
            self._target.set(stage.target, each)
            if stage.need is not None:
                self._need.set(stage.need, each)
            if stage.service is not None:
                self._row_ms.set(1000 * stage.service.row_seconds, each)
                self._batch_ms.set(1000 * stage.service.batch_seconds, each)
