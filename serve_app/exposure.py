"""Who can reach the API, and whether somebody said who may ask. Light to import."""

import ipaddress

from sentinel.errors import SentinelError
from serve_app.args import AppArgs


class Exposed(SentinelError):
    """Other machines could reach it, there are no keys, and nobody allowed that."""


def check_exposure(args: AppArgs, host: str) -> None:
    """Whether to listen on this host, asked by ``sentinel serve`` and by each router at its start.

    :raises Exposed: not without API keys, or ``allow_anonymous``.
    """
    if args.api_keys is None and not args.allow_anonymous and not is_loopback(host):
        raise Exposed(
            f"{host} can be reached by other machines: expected API keys (--api-keys FILE, "
            "args.api_keys), or --allow-anonymous (args.allow_anonymous) where something else "
            "keeps strangers out"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on this host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
