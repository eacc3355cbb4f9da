"""A replica comes to another bundle without ever being without one."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from deployments import held_bundles
from deployments.held_bundles import Held, HeldBundles
from sentinel.bundle import Bundle, open_bundle, write_bundle
from sentinel.errors import BundleError, UnknownBundle


@pytest.fixture
def uris(transactions_bundle: str, tmp_path: Path) -> list[str]:
    """Four bundles that differ in their seed alone, and so in their digest."""
    opened = open_bundle(transactions_bundle)
    made = []
    for seed in range(4):
        made.append(str(tmp_path / f"bundle-{seed}"))
        write_bundle(made[-1], opened.manifest.model_copy(update={"seed": seed}), opened.files)
    return made


@pytest.fixture
def held() -> HeldBundles[str]:
    return HeldBundles(lambda bundle: bundle.uri)


def change(held: HeldBundles[Any], **user_config: Any) -> Held[Any]:
    return asyncio.run(held.change(user_config))


def digest(uri: str) -> str:
    return open_bundle(uri).digest


def test_the_first_bundle_must_load(held: HeldBundles[str], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no bundle"):
        change(held, bundle=str(tmp_path))
    with pytest.raises(BundleError, match=r"user_config\.bundel"):
        change(held, bundel="x")
    assert held.current is None


def test_a_change_makes_the_new_bundle_current_and_keeps_the_old_one(
    held: HeldBundles[str], uris: list[str]
) -> None:
    change(held, bundle=uris[0])
    found = change(held, bundle=uris[1])
    assert found is held.current
    assert found.uri == uris[1]
    assert held.digests == [digest(uris[1]), digest(uris[0])]
    assert held.get(digest(uris[0]), "me") == uris[0]


def test_of_older_bundles_the_one_that_is_asked_for_stays(
    held: HeldBundles[str], uris: list[str]
) -> None:
    """A router that has not moved yet must find the one it answers by, however many came since."""
    change(held, bundle=uris[0])
    for uri in uris[1:]:
        held.get(digest(uris[0]), "me")
        change(held, bundle=uri)
    assert held.digests == [digest(uris[3]), digest(uris[0])]
    with pytest.raises(UnknownBundle, match=f"me holds bundle {digest(uris[3])} or"):
        held.get(digest(uris[1]), "me")


def test_going_back_loads_nothing(uris: list[str]) -> None:
    loaded: list[str] = []

    def load(bundle: Bundle) -> str:
        loaded.append(bundle.uri)
        return bundle.uri

    held = HeldBundles(load)
    change(held, bundle=uris[0])
    change(held, bundle=uris[1])
    shutil.rmtree(uris[0])
    assert change(held, bundle=uris[0], digest=held.digests[1]).uri == uris[0]
    assert loaded == uris[:2]


@pytest.mark.parametrize("kind", ["missing", "changed byte", "another digest", "nonsense"])
def test_a_broken_bundle_is_refused_and_the_old_one_goes_on(
    held: HeldBundles[str], uris: list[str], kind: str
) -> None:
    old = change(held, bundle=uris[0])
    config: dict[str, Any] = {"bundle": uris[1]}
    if kind == "missing":
        shutil.rmtree(uris[1])
    elif kind == "changed byte":
        file = Path(uris[1]) / "xgboost.ubj"
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    elif kind == "another digest":
        config["digest"] = "0" * 64
    else:
        config["bundle"] = 7
    assert change(held, **config) is old
    assert held.refused is not None
    assert held.refused.bundle == str(config["bundle"])
    assert held.refused.reason
    assert "\n" not in held.refused.reason
    change(held, bundle=uris[2])
    assert held.refused is None


def test_a_mistake_in_the_loading_code_does_not_stop_a_replica_that_serves(
    uris: list[str],
) -> None:
    def load(bundle: Bundle) -> str:
        if bundle.uri == uris[1]:
            raise ZeroDivisionError("a mistake")
        return bundle.uri

    held = HeldBundles(load)
    change(held, bundle=uris[0])
    assert change(held, bundle=uris[1]).uri == uris[0]
    assert held.refused is not None
    assert held.refused.reason == "a mistake"


def test_only_the_first_bundle_is_waited_for_and_of_later_ones_the_last_is_taken(
    held: HeldBundles[str], uris: list[str], tmp_path: Path
) -> None:
    async def scene() -> None:
        seen: list[str] = []
        with pytest.raises(BundleError):
            await held.follow({"bundle": str(tmp_path)}, lambda now: seen.append(now.uri))
        await held.follow({"bundle": uris[0]}, lambda now: seen.append(now.uri))
        assert seen == uris[:1]
        for uri in uris[1:3]:
            await held.follow({"bundle": uri}, lambda now: seen.append(now.uri))
        assert seen == uris[:1]
        async with asyncio.timeout(10):
            while len(seen) < 2:
                await asyncio.sleep(0.01)
        assert seen == [uris[0], uris[2]]

    asyncio.run(scene())


def test_a_refused_bundle_is_tried_again_until_it_loads(
    held: HeldBundles[str], uris: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_bundles, "FIRST_PAUSE", 0.01)
    away = Path(uris[1]).rename(Path(uris[1]).with_name("away"))

    async def scene() -> None:
        seen: list[str] = []
        await held.follow({"bundle": uris[0]}, lambda now: seen.append(now.uri))
        await held.follow({"bundle": uris[1]}, lambda now: seen.append(now.uri))
        async with asyncio.timeout(20):
            while held.refused is None:
                await asyncio.sleep(0.01)
            away.rename(uris[1])
            while held.refused is not None:
                await asyncio.sleep(0.01)
        assert seen[-1] == uris[1]

    asyncio.run(scene())


def test_a_refused_bundle_is_given_up_when_another_is_wanted(
    held: HeldBundles[str], uris: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_bundles, "FIRST_PAUSE", 0.01)

    async def scene() -> None:
        for uri in (uris[0], str(tmp_path / "nothing"), uris[2]):
            await held.follow({"bundle": uri}, lambda _: None)
        async with asyncio.timeout(20):
            while held.current is None or held.current.uri != uris[2]:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert held.refused is None
        assert held.current.uri == uris[2]

    asyncio.run(scene())
