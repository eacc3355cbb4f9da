"""Opening a bundle: what was written is what is opened, and nothing else ever opens as it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.bundle import Bundle, open_bundle, write_bundle
from sentinel.errors import BundleError
from sentinel.manifest import Manifest, digest_of, parse_manifest
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE

FILES = (
    "isolation_forest.ubj",
    "model-card.md",
    "novelty.f32",
    "plots/calibration.png",
    "plots/precision-recall.png",
    "plots/regret.png",
    "plots/scores.png",
    "xgboost.ubj",
)
Edit = Callable[[dict[str, Any]], Any]


@pytest.fixture
def folder(creditcard_bundle: str, tmp_path: Path) -> Path:
    """A copy of a good bundle, to be spoilt."""
    return Path(shutil.copytree(creditcard_bundle, tmp_path / "bundle"))


def refusal(uri: str | Path) -> str:
    """Why this bundle is refused: one line that begins with where it is."""
    with pytest.raises(BundleError) as info:
        open_bundle(str(uri))
    text = str(info.value)
    assert text.startswith(str(uri))
    return text.removeprefix(str(uri))


def edit(folder: Path, change: Edit) -> None:
    file = folder / "manifest.json"
    content = json.loads(file.read_bytes())
    change(content)
    file.write_text(json.dumps(content))


def rewritten(bundle: Bundle, folder: Path, replaced: dict[str, bytes], **changes: Any) -> Bundle:
    """The bundle with other files whose hashes are right."""
    manifest = bundle.manifest.model_copy(update=changes)
    write_bundle(str(folder), manifest, {**bundle.files, **replaced})
    return open_bundle(str(folder))


def test_the_files_tested_here_are_all_there_are(creditcard_bundle: str) -> None:
    assert sorted(open_bundle(creditcard_bundle).manifest.files) == sorted(FILES)
    found = [file for file in Path(creditcard_bundle).rglob("*") if file.is_file()]
    assert len(found) == len(FILES) + 1


def test_what_was_written_is_what_is_opened(transactions_bundle: str, tmp_path: Path) -> None:
    original = open_bundle(transactions_bundle)
    digest = write_bundle(str(tmp_path / "new" / "bundle"), original.manifest, original.files)
    again = open_bundle(str(tmp_path / "new" / "bundle"))
    assert again.digest == digest == original.digest
    assert again.manifest == original.manifest
    assert dict(again.files) == dict(original.files)
    for part in ("fields", "features", "entities"):
        got, wanted = (getattr(b.manifest.description, part) for b in (again, original))
        assert list(got) == list(wanted)
    raw = (tmp_path / "new" / "bundle" / "manifest.json").read_bytes()
    assert digest == digest_of(raw)
    assert parse_manifest(raw, "x").to_bytes() == raw


def test_the_order_of_the_fields_is_that_of_the_description(creditcard_bundle: str) -> None:
    fields = list(open_bundle(creditcard_bundle).manifest.description.fields)
    assert fields[:12] == ["transaction_id", *(f"V{at}" for at in range(1, 12))]


def test_the_digest_depends_on_the_contents_alone(creditcard_bundle: str, tmp_path: Path) -> None:
    original = open_bundle(creditcard_bundle)
    backwards = dict(reversed(original.files.items()))
    assert write_bundle(str(tmp_path / "b"), original.manifest, backwards) == original.digest
    more = {**original.files, "plots/more.png": b""}
    assert write_bundle(str(tmp_path / "c"), original.manifest, more) != original.digest
    seed = original.manifest.model_copy(update={"seed": 1})
    assert write_bundle(str(tmp_path / "d"), seed, original.files) != original.digest


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_changed_in_any_way_is_refused_by_name(folder: Path, file: str) -> None:
    place = folder / file
    good = place.read_bytes()
    for at in (0, len(good) // 2, len(good) - 1):
        place.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert f"{file} was changed" in refusal(folder)
    for wrong in (good[:-1], b"", good + b"\0", good + good):
        place.write_bytes(wrong)
        assert f"{file} was changed" in refusal(folder)
    place.unlink()
    assert f"{file} is missing" in refusal(folder)
    place.mkdir()
    assert f"{file} cannot be read" in refusal(folder)


@settings(max_examples=100)
@given(st.data())
def test_no_damage_to_any_byte_goes_unnoticed(
    creditcard_bundle: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    digest = open_bundle(creditcard_bundle).digest
    folder = tmp_path_factory.getbasetemp() / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(creditcard_bundle, folder)
    place = folder / data.draw(st.sampled_from(["manifest.json", "manifest.json", *FILES]))
    content = bytearray(place.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    match data.draw(st.sampled_from(["change", "cut", "insert"])):
        case "change":
            content[at] ^= data.draw(st.integers(1, 255))
        case "cut":
            del content[at : at + data.draw(st.integers(1, 50))]
        case _:
            content[at:at] = data.draw(st.binary(min_size=1, max_size=50))
    place.write_bytes(content)
    if place.name != "manifest.json":
        assert f"{place.relative_to(folder)} was changed" in refusal(folder)
        return
    try:
        opened = open_bundle(str(folder))
        opened.judge()
    except BundleError:
        return
    assert opened.digest != digest


EDITS: dict[str, tuple[Edit, str]] = {
    "newer": (lambda m: m.update(schema_version=2), "version 2, this release reads 1; upgrade"),
    "older": (lambda m: m.update(schema_version=0), "manifest.json has schema version 0"),
    "text version": (lambda m: m.update(schema_version="1"), "schema version '1'"),
    "true version": (lambda m: m.update(schema_version=True), "schema version True"),
    "listed version": (lambda m: m.update(schema_version=[1]), r"schema version [1]"),
    "no version": (lambda m: m.pop("schema_version"), "schema version None"),
    "other format": (lambda m: m.update(format="mlflow"), "not that of a SentinelStream bundle"),
    "no policy": (lambda m: m.pop("policy"), "manifest.json: policy"),
    "second policy": (lambda m: m["description"].update(policy={}), "description.policy"),
    "no description": (lambda m: m.pop("description"), "manifest.json: description"),
    "description": (lambda m: m.update(description=7), "manifest.json: description"),
    "unknown key": (lambda m: m.update(surprise=1), "manifest.json: surprise"),
    "deep key": (lambda m: m["models"][FRAUD_LANE].update(x=1), f"models.{FRAUD_LANE}.x"),
    "unknown feature": (
        lambda m: m["features"].append("velocity_7d"),
        "feature 'velocity_7d' is unknown",
    ),
    "lost feature": (lambda m: m["features"].pop(), "the description makes"),
    "order": (lambda m: m["features"].reverse(), "the description makes"),
    "new kind": (
        lambda m: m["description"]["features"].append({"kind": "velocity", "of": "Amount"}),
        "description.features",
    ),
    "no lane": (lambda m: m["models"].pop(NOVELTY_LANE), "not the two lanes"),
    "more lanes": (
        lambda m: m["models"].update(other=m["models"][FRAUD_LANE]),
        "not the two lanes",
    ),
    "unlisted": (lambda m: m["files"].pop("novelty.f32"), "'novelty.f32' is used but not listed"),
    "hash": (lambda m: m["files"]["xgboost.ubj"].update(sha256="A" * 64), "xgboost.ubj.sha256"),
    "size": (lambda m: m["files"]["xgboost.ubj"].update(size=-1), "xgboost.ubj.size"),
    "bigger": (lambda m: m["files"]["xgboost.ubj"].update(size=2**70), "xgboost.ubj was changed"),
    "smaller": (lambda m: m["files"]["xgboost.ubj"].update(size=9), "xgboost.ubj was changed"),
    "itself": (
        lambda m: m["files"].update({"manifest.json": m["files"]["xgboost.ubj"]}),
        "'manifest.json' is not a plain path",
    ),
    "slope": (lambda m: m["calibration"].update(slope=0), "manifest.json: calibration.slope"),
    "nan": (lambda m: m["quality"].update(x=float("nan")), "manifest.json is not JSON: NaN"),
    "no object": (lambda m: m.update(files=[]), "manifest.json: files"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_manifest_is_refused_by_what_is_wrong_with_it(folder: Path, name: str) -> None:
    change, problem = EDITS[name]
    edit(folder, change)
    assert problem in refusal(folder)


@pytest.mark.parametrize(
    "path",
    [
        *("../x", "/etc/passwd", "a/../../x", "a/..", "..", ".", "", "a//b", "a/", "./a", "~/a"),
        *("a\\b", "..\\x", "C:x", "a\0b", "a\n", "ä", "a b", "-a", ".a", "file:///x", "%2e%2e/x"),
    ],
)
def test_a_path_that_could_leave_the_folder_is_refused(folder: Path, path: str) -> None:
    (folder.parent / "x").write_bytes((folder / "xgboost.ubj").read_bytes())
    edit(folder, lambda m: m["files"].update({path: m["files"]["xgboost.ubj"]}))
    assert f"manifest.json: file path {path!r}" in refusal(folder)
    edit(folder, lambda m: m["models"][FRAUD_LANE].update(file=path))
    assert "manifest.json" in refusal(folder)


@pytest.mark.parametrize("file", ["manifest.json", "xgboost.ubj", "plots"])
def test_a_link_out_of_the_folder_is_refused_although_what_it_leads_to_is_right(
    folder: Path, file: str
) -> None:
    outside = (folder / file).rename(folder.parent / "outside")
    (folder / file).symlink_to(outside)
    text = refusal(folder)
    assert file in text
    assert f"leads out of the bundle, to {outside}" in text


def test_links_inside_the_folder_are_followed_as_kubernetes_mounts_need(
    folder: Path, creditcard_bundle: str
) -> None:
    (folder / "..data").mkdir()
    for name in ("manifest.json", "xgboost.ubj", "plots"):
        (folder / name).rename(folder / "..data" / name)
        (folder / name).symlink_to(Path("..data") / name)
    link = folder.parent / "current"
    link.symlink_to(folder)
    assert open_bundle(str(link)).digest == open_bundle(creditcard_bundle).digest


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\0", b"{", b"[]", b"null", b"7", b'"text"', b"{}", b"{}{}", b"\xff\xfe"),
        *(b'{"format": "sentinelstream-bundle"}', b'{"seed": NaN}', b'{"seed": -Infinity}'),
        *(b"[" * 100_000, b'{"format":' * 100_000, b"1" * 5_000, b" " * (16 * 2**20 + 1)),
    ],
    ids=lambda content: f"{content[:24]!r}*{len(content)}",
)
def test_a_manifest_that_is_none_is_refused(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    assert "manifest.json" in refusal(folder)


def test_places_without_a_bundle_are_refused(folder: Path, tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") == ": there is no bundle (no manifest.json)"
    assert refusal(tmp_path) == ": there is no bundle (no manifest.json)"
    assert "manifest.json cannot be read" in refusal(folder / "xgboost.ubj")


@pytest.mark.parametrize("uri", ["", " ", "\n"])
def test_an_empty_uri_does_not_mean_the_folder_one_happens_to_be_in(
    uri: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(BundleError, match="expected a path or a URI"):
        open_bundle(uri)
    bundle = open_bundle(".")
    with pytest.raises(BundleError, match="expected a path or a URI"):
        write_bundle(uri, bundle.manifest, bundle.files)


@pytest.mark.parametrize(
    "uri",
    ["s4://bucket/b", "http://host/b", "://", "file://relative", "file:///", "a\0b", "\udcff"],
)
def test_uris_that_lead_nowhere_are_refused(uri: str) -> None:
    refusal(uri)


def test_a_bundle_opens_by_any_way_to_name_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = open_bundle(str(folder)).digest
    spaced = folder.rename(folder.parent / "a bundle")
    monkeypatch.chdir(spaced.parent)
    monkeypatch.setenv("HOME", str(spaced.parent))
    quoted = str(spaced).replace(" ", "%20")
    for uri in ("a bundle", "./a bundle/", f"file://{quoted}", f"file://{quoted}/", "~/a bundle"):
        assert open_bundle(uri).digest == digest


def test_a_model_of_another_width_is_refused_although_its_hash_is_right(
    creditcard_bundle: str, plain_bundle: str, tmp_path: Path
) -> None:
    plain = open_bundle(plain_bundle)
    other = {"xgboost.ubj": plain.files["xgboost.ubj"]}
    bundle = rewritten(open_bundle(creditcard_bundle), tmp_path / "b", other)
    with pytest.raises(BundleError) as info:
        bundle.lane(FRAUD_LANE)
    found = f"{len(plain.manifest.features)} features"
    assert f"{tmp_path / 'b'}: xgboost.ubj has {found}" in str(info.value)
    assert "the manifest says 30 features" in str(info.value)
    assert bundle.lane(NOVELTY_LANE).name == NOVELTY_LANE


@pytest.mark.parametrize("content", [b"", b"garbage", b"{}"])
def test_a_model_that_is_none_is_refused_although_its_hash_is_right(
    creditcard_bundle: str, tmp_path: Path, content: bytes
) -> None:
    files = {"isolation_forest.ubj": content}
    bundle = rewritten(open_bundle(creditcard_bundle), tmp_path / "b", files)
    with pytest.raises(BundleError) as info:
        bundle.lanes()
    assert str(info.value).startswith(f"{tmp_path / 'b'}: isolation_forest.ubj: not an XGBoost")


@pytest.mark.parametrize("content", [b"", b"\0\0", b"\0\0\xc0\x7f", b"\0\0\0\x3f"])
def test_a_window_that_is_none_or_too_short_is_refused_although_its_hash_is_right(
    creditcard_bundle: str, tmp_path: Path, content: bytes
) -> None:
    bundle = rewritten(open_bundle(creditcard_bundle), tmp_path / "b", {"novelty.f32": content})
    with pytest.raises(BundleError) as info:
        bundle.judge()
    assert str(info.value).startswith(f"{tmp_path / 'b'}: novelty.f32")


def test_models_of_other_counts_than_the_manifest_states_are_refused(
    creditcard_bundle: str, tmp_path: Path
) -> None:
    original = open_bundle(creditcard_bundle)
    models = dict(original.manifest.models)
    trees = models[FRAUD_LANE].trees
    models[FRAUD_LANE] = models[FRAUD_LANE].model_copy(update={"trees": trees + 1})
    bundle = rewritten(original, tmp_path / "b", {}, models=models)
    with pytest.raises(BundleError, match=f"has 30 features and {trees} trees, the manifest says"):
        bundle.lane(FRAUD_LANE)


def test_a_manifest_is_read_the_same_whatever_place_it_comes_from(creditcard_bundle: str) -> None:
    raw = (Path(creditcard_bundle) / "manifest.json").read_bytes()
    assert isinstance(parse_manifest(raw, "s3://bucket/b"), Manifest)
    with pytest.raises(BundleError, match=r"^s3://bucket/b: manifest\.json"):
        parse_manifest(raw[:-3], "s3://bucket/b")
