"""The models in the router's own process."""

import asyncio
import threading

import numpy as np
import pytest

from deployments.lanes_here import INLINE_ROWS, MODELS, LanesHere
from sentinel.bundle import Bundle, open_bundle
from sentinel.errors import UnknownBundle
from sentinel.scoring import LocalLanes


@pytest.fixture(scope="module")
def bundle(plain_bundle: str) -> Bundle:
    return open_bundle(plain_bundle)


@pytest.mark.parametrize("rows", [1, INLINE_ROWS, INLINE_ROWS + 1])
def test_they_score_as_the_lanes_do_and_many_rows_in_a_thread(bundle: Bundle, rows: int) -> None:
    models = bundle.lanes()
    threads = []

    class Watched(LocalLanes):
        def __init__(self) -> None:
            pass

        def score(self, features: object) -> object:  # type: ignore[override]
            threads.append(threading.current_thread())
            return models.score(features)  # type: ignore[arg-type]

    width = len(bundle.manifest.features)
    features = np.random.default_rng(0).random((rows, width)).astype(np.float32)
    timed: list[str] = []
    here = LanesHere(lambda _: Watched(), lambda stage, _: timed.append(stage))
    found = asyncio.run(here(features, bundle.digest))
    assert timed == [MODELS]
    expected = models.score(features)
    assert found.fraud is not None
    assert found.anomaly is not None
    np.testing.assert_array_equal(found.fraud, expected.fraud)
    np.testing.assert_array_equal(found.anomaly, expected.anomaly)
    assert (threads == [threading.main_thread()]) == (rows <= INLINE_ROWS)


def test_a_bundle_that_is_not_held_is_a_typed_refusal(bundle: Bundle) -> None:
    def none(digest: str) -> LocalLanes:
        raise UnknownBundle("router", digest, "none")

    with pytest.raises(UnknownBundle):
        asyncio.run(LanesHere(none)(np.zeros((1, 3), np.float32), bundle.digest))
