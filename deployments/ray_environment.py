"""What a Ray of one's own needs in the environment before it is imported. Light to import."""

from collections.abc import Mapping

PRIVATE: Mapping[str, str] = {
    # Whoever reaches Ray's ports can run code as this user. They are on loopback, but loopback is
    # shared by everyone on the machine, and each replica's own gRPC port is not even there: Ray
    # binds it to every interface. So callers need the token in ~/.ray/auth_token.
    "RAY_AUTH_MODE": "token",
    # Ray's switch for "this machine only", on by default on macOS and Windows: its sockets listen
    # on 127.0.0.1. Who joins this Ray must set it too.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Reachable from this machine and by this user alone."""
