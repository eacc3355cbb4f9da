"""A model goes live by a commit: the one that names the bundle in the values Argo CD reads.

The commit is made in a checkout of its own, so that whoever promotes keeps theirs as it is, and on
a branch of its own: what goes to the cluster is merged by whoever may.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml

from ray_cluster.errors import ClusterError
from ray_cluster.presync import check_bundle
from sentinel.bundle import Bundle, open_bundle
from sentinel.errors import UsageError
from sentinel.manifest import Manifest

SHORT = 12
"""Digits of a version that people read."""

FIGURES = {
    "average_precision": "average precision",
    "auroc": "AUROC",
    "recall_at_1pct_fpr": "recall at 1% false positives",
    "brier_skill": "Brier skill",
    "expected_calibration_error": "expected calibration error",
    "regret_per_1000": "regret per 1,000 transactions",
}
"""The model card's figures, in its order."""


class Promoted(msgspec.Struct, frozen=True):
    """The commit that was made. ``before`` is the bundle that the values named until then."""

    bundle: str
    digest: str
    before: str
    branch: str
    commit: str
    file: str
    message: str


def promote(uri: str, values: Path, branch: str | None = None) -> Promoted:
    """Commits the bundle's URI and digest to the values file, on a new branch from HEAD.

    :raises UsageError: no such file, no repository around it, no bundle named in it.
    :raises BundleError: the bundle cannot be read, or its models do not load.
    :raises ClusterError: uncommitted changes, the bundle that is there already, a branch of that
        name, or git refuses.
    """
    root = _repository_of(values)
    _refuse_if_dirty(root)
    place = values.resolve().relative_to(root)
    before = _named_in(values)
    bundle = open_bundle(uri)
    check_bundle(uri, bundle.digest)
    _refuse_if_same(before, bundle)
    name = branch or f"promote/{bundle.digest[:SHORT]}"
    message = commit_message(bundle, before)
    with _checkout_on_branch(root, name) as checkout:
        file = checkout / place
        file.write_text(with_bundle(file.read_text("utf-8"), uri, bundle.digest, str(place)))
        _git(checkout, "commit", "--quiet", "--message", message, "--", str(place))
        commit = _git(checkout, "rev-parse", "HEAD").strip()
    return Promoted(uri, bundle.digest, before["uri"], name, commit, str(place), message)


def with_bundle(text: str, uri: str, digest: str, origin: str) -> str:
    """The values with another bundle; every other character stays as it is.

    :raises UsageError: no YAML, or no ``bundle.uri`` and ``bundle.digest`` in it.
    """
    nodes = _bundle_nodes(text, origin)
    for key, value in sorted(
        {"uri": uri, "digest": digest}.items(), key=lambda item: -nodes[item[0]].start_mark.index
    ):
        node = nodes[key]
        start, end = node.start_mark.index, node.end_mark.index
        text = text[:start] + json.dumps(value, ensure_ascii=False) + text[end:]
    return text


def commit_message(bundle: Bundle, before: dict[str, str]) -> str:
    """What the reviewer must know: which bundle, instead of which, trained on what, how good."""
    manifest, data = bundle.manifest, bundle.manifest.data
    span = f", {data.first} to {data.last}" if data.first else ""
    old = before["digest"][:SHORT] or "one without a stated version"
    lines = [
        f"Promote bundle {bundle.digest[:SHORT]} ({manifest.description.name})",
        "",
        f"Bundle:  {bundle.uri}",
        f"Version: {bundle.digest}",
        f"Before:  {before['uri']} ({old})",
        "",
        f"Trained on {data.rows:,} rows with {data.frauds:,} frauds{span}.",
        *_quality(manifest),
    ]
    return "\n".join(lines) + "\n"


def _quality(manifest: Manifest) -> Iterator[str]:
    quality: dict[str, Any] = manifest.quality
    if not quality.get("measured"):
        yield f"Quality was not measured: {quality.get('reason', 'no reason given')}."
        return
    together = quality["together"]
    yield (
        f"Backtest on the {together['rows']:,} rows after those trained on, "
        f"{together['frauds']:,} of them frauds (95% interval):"
    )
    for key, title in FIGURES.items():
        figure = together[key]
        yield f"- {title} {figure['value']:.4g} [{figure['low']:.4g}, {figure['high']:.4g}]"


def _bundle_nodes(text: str, origin: str) -> dict[str, yaml.ScalarNode]:
    try:
        document = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UsageError(f"{origin} is no YAML: {' '.join(str(error).split())}") from error
    nodes = _children(_children(document).get("bundle"))
    found = {key: node for key, node in nodes.items() if isinstance(node, yaml.ScalarNode)}
    if not {"uri", "digest"} <= found.keys():
        raise UsageError(f"{origin} has no bundle.uri and bundle.digest; expected both to be there")
    return found


def _children(node: yaml.Node | None) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {key.value: value for key, value in node.value}


def _named_in(values: Path) -> dict[str, str]:
    nodes = _bundle_nodes(values.read_text("utf-8"), str(values))
    return {key: str(nodes[key].value) for key in ("uri", "digest")}


def _refuse_if_same(before: dict[str, str], bundle: Bundle) -> None:
    if before["digest"] == bundle.digest:
        raise ClusterError(
            f"{bundle.uri} is version {bundle.digest}, which the values name already"
        )
    if before["uri"] == bundle.uri and before["digest"]:
        raise ClusterError(
            f"{bundle.uri} was written over: the values name it as version {before['digest']}, it "
            f"is {bundle.digest} now; a revert could not come back. Give each bundle a place of "
            "its own"
        )


def _repository_of(values: Path) -> Path:
    if not values.is_file():
        raise UsageError(f"no values file {values}; --values says which one Argo CD reads")
    return Path(_git(values.resolve().parent, "rev-parse", "--show-toplevel").strip()).resolve()


def _refuse_if_dirty(root: Path) -> None:
    changed = _git(root, "status", "--porcelain", "--untracked-files=no").splitlines()
    if changed:
        some = ", ".join(line[3:] for line in changed[:3])
        raise ClusterError(
            f"{root} has uncommitted changes ({some}): commit or stash them first, so that the "
            "commit holds the promotion and nothing else"
        )


@contextmanager
def _checkout_on_branch(root: Path, branch: str) -> Iterator[Path]:
    """A checkout of HEAD on a new branch; if what is done in it fails, no branch is left."""
    with tempfile.TemporaryDirectory(prefix="sentinel-promote-") as folder:
        checkout = Path(folder) / "checkout"
        _git(root, "worktree", "add", "--quiet", "-b", branch, str(checkout))
        try:
            yield checkout
        except BaseException:
            _git(root, "worktree", "remove", "--force", str(checkout))
            _git(root, "branch", "--quiet", "-D", branch)
            raise
        _git(root, "worktree", "remove", "--force", str(checkout))


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ClusterError("no git on PATH: a promotion is a commit") from error
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise ClusterError(f"git {arguments[0]} in {folder}: {said}")
    return done.stdout
