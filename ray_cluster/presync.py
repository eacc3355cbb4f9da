"""Whether a commit may reach the cluster: a pod of its image asks before anything is applied.

What it is given is what the chart made of the commit; what it loads is what replicas would load.
"""

import msgspec

from ray_cluster.errors import ClusterError
from ray_cluster.serve_check import check_serve_config
from sentinel.bundle import Bundle, open_bundle
from sentinel.errors import BundleError, SentinelError


class Checked(msgspec.Struct, frozen=True):
    """A bundle that this image can serve. ``features`` counts them."""

    bundle: str
    digest: str
    dataset: str
    features: int


class CommitRefused(ClusterError):
    """A commit that must not reach the cluster. ``problems`` holds a line each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("this commit is refused: " + "; ".join(problems))


def check_commit(uri: str, digest: str, serve_config: str) -> Checked:
    """Loads the bundle whole, as a replica does, and holds the Serve config against Ray's schema.

    :raises CommitRefused: with everything that is wrong: no bundle there, a changed file, a newer
        schema, another digest than the commit says, a Serve config that Serve would not run.
    """
    problems = []
    bundle = None
    try:
        bundle = check_bundle(uri, digest)
    except BundleError as error:
        problems.append(f"bundle.uri: {error}")
    try:
        check_serve_config(serve_config)
    except SentinelError as error:
        problems.append(str(error))
    if problems or bundle is None:
        raise CommitRefused(problems)
    manifest = bundle.manifest
    return Checked(uri, bundle.digest, manifest.description.name, len(manifest.features))


def check_bundle(uri: str, digest: str) -> Bundle:
    """The bundle, if it is the one of this digest and its models load.

    :raises BundleError: it is not, or they do not.
    """
    bundle = open_bundle(uri)
    if digest != bundle.digest:
        raise BundleError(
            f"{uri} is version {bundle.digest}, expected "
            f"{digest or 'bundle.digest to say so: a commit pins what it brings'}"
        )
    bundle.judge()
    bundle.lanes()
    return bundle
