"""The API server, through the official ``kubernetes`` package, for objects of any kind.

What that package raises becomes one line of ``errors.py`` here, and nowhere else.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ResourceNotFoundError
from urllib3.exceptions import HTTPError

from ray_cluster.errors import CannotReach, ClusterError, RefusedByCluster
from ray_cluster.objects import Manifest, Ref

FIELD_MANAGER = "sentinel"
"""Owns, in the API server's books, the fields that the chart sets."""

ANSWER_S = 30.0
"""How long an answer may take: a server-side dry run of a RayService is a second's work on a busy
server, and a server that is being restarted refuses at once."""

Result = TypeVar("Result")


class Cluster:
    """One API server and one namespace of it. Speaks to the server when asked, not before."""

    def __init__(self, api: "client.ApiClient", namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self._dynamic: Any = None

    def get(self, ref: Ref) -> Manifest | None:
        """The object, or None where there is none; a kind that the server lacks is an error.

        :raises ClusterError: the server said no.
        """
        resource = self.resource(ref)

        def ask() -> Manifest:
            return _parsed(
                resource.get(
                    name=ref.name, namespace=ref.namespace or self.namespace, **self._options()
                )
            )

        try:
            return asked(f"reading {ref}", ask)
        except RefusedByCluster as error:
            if isinstance(error.__cause__, ApiException) and error.__cause__.status == 404:
                return None
            raise

    def objects(self, api_version: str, kind: str, selector: str = "") -> list[Manifest]:
        """The namespace's objects of a kind, by label.

        :raises ClusterError: the server said no.
        """
        return self.listing(api_version, kind, label_selector=selector)["items"]

    def listing(self, api_version: str, kind: str, **options: Any) -> Manifest:
        """As ``objects``, with the list's metadata: a watch goes on from its resourceVersion."""
        resource = self.resource(Ref(api_version, kind, ""))

        def ask() -> Manifest:
            given = {key: value for key, value in options.items() if value}
            found = _parsed(resource.get(namespace=self.namespace, **given, **self._options()))
            for item in found["items"]:  # a list leaves these to be known
                item.setdefault("apiVersion", api_version)
                item.setdefault("kind", kind)
            return found

        return asked(f"listing {kind}s in {self.namespace}", ask)

    def apply(self, manifest: Manifest, *, dry_run: bool = False, force: bool = False) -> Manifest:
        """Server-side apply: the object as the server would have it, or has it now.

        :raises RefusedByCluster: the server refused it; its cause is the server's answer.
        """
        ref = Ref.of(manifest)
        resource = self.resource(ref)
        options = self._options() | {"field_manager": FIELD_MANAGER}
        if dry_run:
            options["dry_run"] = "All"

        def ask() -> Manifest:
            namespace = ref.namespace or self.namespace
            return _parsed(
                resource.server_side_apply(
                    body=manifest,
                    name=ref.name,
                    namespace=namespace,
                    force_conflicts=force,
                    **options,
                )
            )

        return asked(f"{'checking' if dry_run else 'applying'} {ref}", ask)

    def patch(self, ref: Ref, operations: Sequence[Mapping[str, Any]]) -> Manifest:
        """A JSON patch (RFC 6902): all of it, or nothing if a ``test`` in it fails."""
        resource = self.resource(ref)

        def ask() -> Manifest:
            return _parsed(
                resource.patch(
                    body=list(operations),
                    name=ref.name,
                    namespace=ref.namespace or self.namespace,
                    content_type="application/json-patch+json",
                    field_manager=FIELD_MANAGER,
                    **self._options(),
                )
            )

        return asked(f"changing {ref}", ask)

    def create(self, manifest: Manifest) -> Manifest:
        """A new object; one of that name is an error."""
        resource = self.resource(Ref.of(manifest))

        def ask() -> Manifest:
            options = self._options() | {"field_manager": FIELD_MANAGER}
            return _parsed(resource.create(body=manifest, namespace=self.namespace, **options))

        return asked(f"making {Ref.of(manifest)}", ask)

    def delete(self, ref: Ref) -> None:
        """Gone, or going; one that is not there is no error."""
        resource = self.resource(ref)

        def ask() -> None:
            try:
                _parsed(
                    resource.delete(
                        name=ref.name,
                        namespace=ref.namespace or self.namespace,
                        propagation_policy="Background",
                        **self._options(),
                    )
                )
            except ApiException as error:
                if error.status != 404:
                    raise

        asked(f"removing {ref}", ask)

    def resource(self, ref: Ref) -> Any:
        """The kind's place on this server.

        :raises ClusterError: it has no such kind; says what brings it.
        """

        def ask() -> Any:
            return self.dynamic.resources.get(api_version=ref.api_version, kind=ref.kind)

        try:
            return asked(f"looking for {ref.kind}", ask)
        except ResourceNotFoundError as error:
            raise ClusterError(
                f"the cluster has no kind {ref.kind} ({ref.api_version}): {_advice(ref)}"
            ) from error

    @property
    def dynamic(self) -> Any:
        """The package's client for any kind; asks the server what kinds it has when first used."""
        if self._dynamic is None:
            # By default it keeps what it learns in /tmp under a name that anyone can foresee, and
            # takes one cluster for another at the same address. No file, no such memory.
            nowhere = os.path.join(os.devnull, "kinds")
            self._dynamic = asked(
                "reading its kinds", lambda: DynamicClient(self.api, cache_file=nowhere)
            )
        return self._dynamic

    def _options(self) -> dict[str, Any]:
        return {"serialize": False, "_request_timeout": ANSWER_S}


def connect(kubeconfig: str | None, context: str | None, namespace: str | None) -> Cluster:
    """The cluster of a kubeconfig (by default ``KUBECONFIG``, then ``~/.kube/config``; inside a pod
    that has neither, the cluster it runs in). ``namespace`` is by default the context's.

    :raises CannotReach: there is no kubeconfig, or no such context in it.
    """
    settings = client.Configuration()
    try:
        config.load_kube_config(kubeconfig, context, client_configuration=settings)
        found = _namespace_of(kubeconfig, context)
    except ConfigException as error:
        if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=settings)
            found = _own_namespace()
        else:
            raise CannotReach(
                f"no cluster to speak to: {error}; expected a kubeconfig in --kubeconfig, "
                "KUBECONFIG or ~/.kube/config"
            ) from error
    settings.retries = 0  # who waits says so
    return Cluster(client.ApiClient(settings), namespace or found)


def _namespace_of(kubeconfig: str | None, context: str | None) -> str:
    contexts, active = config.list_kube_config_contexts(kubeconfig)
    chosen = next((c for c in contexts if c["name"] == context), active)
    return chosen["context"].get("namespace") or "default"


def _own_namespace() -> str:
    with open("/var/run/secrets/kubernetes.io/serviceaccount/namespace", encoding="utf-8") as file:
        return file.read().strip()


def asked(doing: str, ask: Callable[[], Result]) -> Result:
    """What ``ask`` returns; what the package raises as our own error.

    :raises CannotReach: nobody answers, or does not know the account.
    :raises RefusedByCluster: the server said no.
    """
    try:
        return ask()
    except ApiException as error:
        said = message_of(error)
        if error.status == 401:
            raise CannotReach(f"{doing}: the cluster does not know this account: {said}") from error
        raise RefusedByCluster(doing, [said]) from error
    except (HTTPError, OSError) as error:
        raise CannotReach(f"{doing}: the API server does not answer: {_cause(error)}") from error


def message_of(error: ApiException) -> str:
    """The server's own sentence, or the status where it has none."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
    try:
        message = json.loads(body or "")["message"]
    except (ValueError, KeyError, TypeError):
        message = (body or "").strip() or f"{error.status} {error.reason}"
    return " ".join(str(message).split())


def _parsed(response: Any) -> Any:
    return json.loads(response.data)


def _cause(error: BaseException) -> str:
    inner = getattr(error, "reason", None)
    return " ".join(str(inner if inner is not None else error).split())


def _advice(ref: Ref) -> str:
    group = ref.api_version.partition("/")[0]
    known = {
        "ray.io": "install KubeRay's operator (make cluster-up does), with its CRDs",
        "monitoring.coreos.com": "install the Prometheus operator, or set monitoring.enabled=false",
        "gateway.networking.k8s.io": "install the Gateway API, or set gateway.enabled=false",
    }
    return known.get(group, "is it spelled right, and its CRD installed?")
