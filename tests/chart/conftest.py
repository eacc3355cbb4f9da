"""The chart's objects with trial values and production's, rendered once."""

import pytest

from tests.chart.rendering import Object, rendered


@pytest.fixture(scope="session")
def trial() -> list[Object]:
    """Values as they are."""
    return rendered()


@pytest.fixture(scope="session")
def production() -> list[Object]:
    """With ``values-production.yaml``."""
    return rendered(production=True)


@pytest.fixture(params=["trial", "production"])
def objects(request: pytest.FixtureRequest) -> list[Object]:
    """Both, one after the other."""
    found: list[Object] = request.getfixturevalue(request.param)
    return found
