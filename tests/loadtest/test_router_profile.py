"""Looks at the router's stack, shared out to the pieces of software in it."""

from loadtest.router_profile import PIECES, REST, shares, titled

HTTP, INGRESS = "HTTP (uvicorn)", "Serve's ingress"
CALLS = "the calls to the models (Serve's handles, gRPC)"
OURS = "ours, a batch: columns, features, decisions"


def test_a_look_counts_for_the_innermost_piece_with_a_name() -> None:
    found = shares(
        [
            "run (asyncio/runners.py:1);run_asgi (uvicorn/protocols/http/h.py:4) 3",
            "run_asgi (uvicorn/x.py:1);call (ray/serve/_private/replica.py:9);copy (copy.py:2) 2",
            "_fly (serve_app/flights.py:1);remote (ray/serve/handle.py:2);x (grpc/aio/c.py:2) 1",
            "_fly (serve_app/flights.py:1);decide (sentinel/decision.py:2);sum (numpy/x.py:2) 3",
            "run (threading.py:982) 1",
        ]
    )
    assert found[HTTP] == 0.3
    assert found[INGRESS] == 0.2
    assert found[CALLS] == 0.1
    assert found[OURS] == 0.3
    assert found[REST] == 0.1
    assert list(found) == [*PIECES, REST]


def test_nothing_seen_is_no_share_at_all() -> None:
    assert set(shares([]).values()) == {0.0}


def test_the_flame_graph_says_what_it_shows_and_not_how_it_was_made() -> None:
    drawn = '<svg><text id="title" x="5">/a/b/py-spy record --pid 1</text><text>kept</text></svg>'
    assert titled(drawn) == (
        '<svg><text id="title" x="5">The router\'s Python stacks at 64 connections</text>'
        "<text>kept</text></svg>"
    )
