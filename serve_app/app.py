"""The app builder that the Serve config names: ``serve_app.app:build``.

No ``from __future__ import annotations`` here: Serve converts ``args`` only where the annotation
of ``build`` is a class.
"""

from ray import serve
from ray.serve import Application

from deployments.lane_server import DEFAULT_BUNDLE, lane_deployments
from deployments.profile_server import profile_deployment
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE
from serve_app.args import AppArgs
from serve_app.router import FraudRouter
from serve_app.serve_config import ROUTER


def build(args: AppArgs) -> Application:
    """The application: the router, and behind it the profiles and a deployment for each lane,
    unless the router is to have both models itself."""
    profiles = profile_deployment(args.profiles)
    router = serve.deployment(name=ROUTER, user_config=DEFAULT_BUNDLE)(serve.ingress()(FraudRouter))
    if args.placement == "together":
        return router.bind(args, profiles)
    lanes = lane_deployments()
    return router.bind(args, profiles, lanes[FRAUD_LANE], lanes[NOVELTY_LANE])
