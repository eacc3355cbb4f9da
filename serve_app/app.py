"""The app builder that the Serve config names: ``serve_app.app:build``.

No ``from __future__ import annotations`` here: Serve converts ``args`` only where the annotation
of ``build`` is a class.
"""

from ray import serve
from ray.serve import Application

from deployments.lane_server import lane_deployments
from sentinel.bundle import open_bundle
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE
from serve_app.args import AppArgs
from serve_app.router import FraudRouter

ROUTER = "FraudRouter"
"""The router's deployment, in the Serve config, the dashboard and metrics."""


def build(args: AppArgs) -> Application:
    """The application: the router, and behind it a deployment for each lane.

    :raises BundleError: there is no bundle that can be trusted; said here, because a constructor
        that fails is tried again before Serve says why.
    """
    uri = args.bundle_uri
    open_bundle(uri)
    lanes = lane_deployments(uri)
    router = serve.deployment(name=ROUTER)(serve.ingress()(FraudRouter))
    return router.bind(uri, lanes[FRAUD_LANE], lanes[NOVELTY_LANE])
