"""``sentinel.scaling`` as an autoscaling policy of Ray Serve, one for the whole application.

The Serve config names it (``docs/autoscaling.md`` says what else must stand there):

    autoscaling_policy:
      policy_function: deployments.autoscaling:ReplicasByQueue
      policy_kwargs: {objective_ms: 50}

Serve's controller makes one of it when the application is deployed, calls it some ten times a
second with a context of every deployment that has an ``autoscaling_config``, and takes what it
returns for the replicas each should have. Serve ships this module by value, but what it imports by
name: the controller needs this package, and a new version of it needs a new controller.

Of a context only ``raw_metrics`` is used: the reports of each replica as it made them, with their
times. What Serve makes of them (``aggregated_metrics``) is a mean over ``look_back_period_s`` that
does not say how old it is.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.serve._private.common import DeploymentID
from ray.serve.config import AutoscalingContext

from deployments.scaling_metrics import ScalingMetrics
from sentinel.load_report import Point
from sentinel.load_view import LoadView, StageReports
from sentinel.scaling import Memory, Verdict, decide
from sentinel.scaling_settings import ScalingSettings

logger = logging.getLogger("ray.serve")  # in the controller, the one of its log file

PREFIX = "sentinel_"
"""What the names of our own figures begin with; Serve's stand beside them."""

INTERVAL = 0.5
"""Seconds between two decisions: reports come no faster."""

SAME_TROUBLE = 60.0
"""Seconds before a failure is logged again."""

Contexts = Mapping[DeploymentID, AutoscalingContext]
Replicas = dict[DeploymentID, int]
States = dict[DeploymentID, dict[str, Any]]


class ReplicasByQueue:
    """Sizes the router and the lanes together, by what waits before them.

    Never raises: Serve's controller would leave out all it does for applications until it did not.
    """

    def __init__(
        self,
        queue: str = "FraudRouter",
        clock: Callable[[], float] = time.monotonic,
        **settings: Any,
    ) -> None:
        """``queue``: the deployment that the work comes to; ``settings``: see ``ScalingSettings``.

        :raises ValidationError: a setting that does not exist, or cannot be meant.
        """
        self._settings = ScalingSettings.model_validate(settings)
        self._clock = clock
        self._view = LoadView(self._settings, queue)
        self._memory = Memory()
        self._decided = float("-inf")
        self._targets: dict[str, int] = {}
        self._metrics = ScalingMetrics()
        self._held: dict[str, str] = {}
        self._troubled = float("-inf")

    def __call__(self, contexts: Contexts) -> tuple[Replicas, States]:
        """Called by Serve. What a deployment is not given a number for stays as it is."""
        try:
            now = self._clock()
            if now - self._decided >= INTERVAL:
                self._decided = now
                self._decide(now, contexts)
            # Said again in between: Serve shows what was said last, and counts its delays from it.
            known = self._targets
            return {key: known[key.name] for key in contexts if key.name in known}, {}
        except Exception:
            if self._clock() - self._troubled >= SAME_TROUBLE:
                self._troubled = self._clock()
                logger.exception("scale: holds: no decision could be made")
            return {}, {}

    def _decide(self, now: float, contexts: Contexts) -> None:
        self._targets = {}  # should this fail, nothing moves
        reports = [stage_reports(context) for context in contexts.values()]
        sight = self._view.sight(now, reports)
        verdict, self._memory = decide(self._settings, self._memory, sight)
        self._targets = verdict.targets
        application = next((key.app_name for key in contexts), "")
        self._metrics.show(application, verdict)
        self._log(verdict)

    def _log(self, verdict: Verdict) -> None:
        """A line for each change, and one when a stage begins to be held, or is no more."""
        for line in verdict.lines():
            logger.info(line)
        held = {stage.name: stage.reason for stage in verdict.stages if stage.need is None}
        for name in held.keys() - self._held.keys():
            logger.info("scale: %s %s", name, held[name])
        for name in self._held.keys() - held.keys():
            logger.info("scale: %s goes on: it is known again", name)
        self._held = held


def stage_reports(context: AutoscalingContext) -> StageReports:
    """What a deployment's context says: its bounds, and the last reports of its replicas."""
    figures: dict[str, dict[float, dict[str, float]]] = {
        replica.unique_id: {} for replica in context.running_replicas
    }
    for name, by_replica in (context.raw_metrics or {}).items():
        if not name.startswith(PREFIX):
            continue
        for replica, series in by_replica.items():
            for value in series:
                at = figures.setdefault(replica.unique_id, {}).setdefault(value.timestamp, {})
                at[name] = value.value
    return StageReports(
        name=context.deployment_name,
        target=context.target_num_replicas,
        lowest=context.capacity_adjusted_min_replicas,
        highest=context.capacity_adjusted_max_replicas,
        replicas={replica: _points(found) for replica, found in figures.items()},
    )


def _points(found: Mapping[float, Mapping[str, float]]) -> Sequence[Point]:
    return [Point(at, found[at]) for at in sorted(found)]
