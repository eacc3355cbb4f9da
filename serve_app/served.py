"""Everything about one bundle that a router needs, made once when it is loaded."""

from dataclasses import dataclass

from sentinel.bundle import Bundle
from sentinel.manifest import Manifest
from sentinel.parse_arrow import ArrowParser
from sentinel.parse_json import JsonParser
from sentinel.profile_store import warm_up
from sentinel.scoring import Judge, LocalLanes


@dataclass(frozen=True, slots=True, eq=False)
class ServedBundle:
    """What reads, judges and describes by one bundle. Compared by identity."""

    uri: str
    judge: Judge
    manifest: Manifest
    json: JsonParser
    arrow: ArrowParser
    models: LocalLanes | None
    """``None`` where the models stand in deployments of their own."""

    @property
    def digest(self) -> str:
        """The ``model_version`` of its answers."""
        return self.judge.digest


def served_bundle(bundle: Bundle, with_models: bool = False) -> ServedBundle:
    """:raises BundleError: its novelty window, or a model, is not what the manifest says."""
    description = bundle.manifest.description
    judge = bundle.judge()
    warm_up(judge)
    if judge.explainer is not None:
        judge.explainer.warm_up()
    return ServedBundle(
        uri=bundle.uri,
        judge=judge,
        manifest=bundle.manifest,
        json=JsonParser(description),
        arrow=ArrowParser(description),
        models=bundle.lanes() if with_models else None,
    )
