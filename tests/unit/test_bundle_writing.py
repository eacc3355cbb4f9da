"""Writing a bundle: whole or not at all, over an older one, and over nothing else."""

import json
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

import sentinel.bundle
from sentinel.bundle import Bundle, check_destination, open_bundle, write_bundle
from sentinel.errors import BundleError


@pytest.fixture(scope="module")
def old(creditcard_bundle: str) -> Bundle:
    return open_bundle(creditcard_bundle)


@pytest.fixture(scope="module")
def new(transactions_bundle: str) -> Bundle:
    return open_bundle(transactions_bundle)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where bundles are written in these tests; nothing is there yet, nor beside it."""
    return tmp_path / "shelf" / "bundle"


def write(bundle: Bundle, place: Path | str) -> str:
    return write_bundle(str(place), bundle.manifest, bundle.files)


def everything_in(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def refusal(bundle: Bundle, place: Path | str, **more: bytes) -> str:
    """Why nothing is written there; it names the place."""
    with pytest.raises(BundleError) as info:
        write_bundle(str(place), bundle.manifest, {**bundle.files, **more})
    assert str(place) in str(info.value)
    return str(info.value)


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """The system refuses to let any file of this process grow further, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_bundle_is_its_files_and_its_manifest_and_leaves_nothing_beside_it(
    old: Bundle, place: Path
) -> None:
    assert write(old, place) == old.digest
    written = everything_in(place)
    assert written.pop("manifest.json")
    assert written == dict(old.files)
    assert list(place.parent.iterdir()) == [place]


def test_a_bundle_replaces_an_older_one_and_all_of_its_files(
    old: Bundle, new: Bundle, place: Path
) -> None:
    write_bundle(str(place), old.manifest, {**old.files, "plots/old.png": b"1", "old/x": b"2"})
    assert write(new, place) == new.digest
    assert open_bundle(str(place)).digest == new.digest
    assert set(everything_in(place)) == {*new.files, "manifest.json"}
    assert list(place.parent.iterdir()) == [place]


def test_a_bundle_may_be_written_into_an_empty_folder_by_uri_or_relative_path(
    old: Bundle, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.mkdir(parents=True)
    assert write(old, f"file://{place}") == old.digest
    monkeypatch.chdir(place.parent)
    for relative in ("other", "./deep/er/", "bundle"):
        assert write(old, relative) == open_bundle(relative).digest == old.digest


def test_a_link_to_a_bundle_stays_a_link_and_what_it_leads_to_is_replaced(
    old: Bundle, new: Bundle, place: Path
) -> None:
    write(old, place)
    link = place.parent.parent / "current"
    link.symlink_to(place)
    write(new, link)
    assert link.is_symlink()
    assert open_bundle(str(place)).digest == new.digest
    assert sorted(p.name for p in link.parent.iterdir()) == ["current", "shelf"]
    assert list(place.parent.iterdir()) == [place]


def test_a_full_disk_leaves_the_older_bundle_and_nothing_beside_it(
    old: Bundle, new: Bundle, place: Path
) -> None:
    write(old, place)
    for size in (0, 100, max(map(len, new.files.values())) - 1):
        with files_limited_to(size):
            assert "cannot be written" in refusal(new, place)
        assert open_bundle(str(place)).digest == old.digest
        assert list(place.parent.iterdir()) == [place]


def test_a_full_disk_leaves_nothing_where_nothing_was(new: Bundle, place: Path) -> None:
    with files_limited_to(100):
        refusal(new, place)
    assert list(place.parent.iterdir()) == []
    check_destination(str(place))


def test_a_file_in_the_way_of_a_folder_of_the_same_name_fails_the_whole_bundle(
    old: Bundle, new: Bundle, place: Path
) -> None:
    write(old, place)
    assert "cannot be written" in refusal(new, place, **{"plots": b"", "zz": b"", "zz/zz": b""})
    assert open_bundle(str(place)).digest == old.digest
    assert list(place.parent.iterdir()) == [place]


def test_places_that_cannot_be_written_are_refused_before_and_at_writing(
    old: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    for uri in (tmp_path / "file", "s4://bucket/b", "a\0b", "\udcff", "/"):
        with pytest.raises(BundleError):
            check_destination(str(uri))
        refusal(old, uri)
    for uri in (tmp_path / "file" / "bundle", "/proc/bundle"):
        refusal(old, uri)
    assert everything_in(tmp_path) == {"file": b"mine"}


def test_the_root_of_the_disk_by_uri_is_not_the_working_folder(
    old: Bundle, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(old, place)
    monkeypatch.chdir(place)
    assert "holds other files" in refusal(old, "file:///")
    assert open_bundle(str(place)).digest == old.digest


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_brings_the_older_bundle_back(
    old: Bundle, new: Bundle, place: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    write(old, place)
    rename, done = Path.rename, []

    def rename_but_once(self: Path, target: Path) -> Path:
        done.append(target)
        if len(done) == failing:
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_but_once)
    assert "Permission denied" in refusal(new, place)
    assert open_bundle(str(place)).digest == old.digest
    assert list(place.parent.iterdir()) == [place]


def test_an_older_bundle_that_cannot_be_brought_back_is_kept_beside_its_place(
    old: Bundle, new: Bundle, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(old, place)
    rename, done = Path.rename, []

    def rename_once(self: Path, target: Path) -> Path:
        done.append(target)
        if len(done) > 1:
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", rename_once)
    refusal(new, place)
    (kept,) = place.parent.iterdir()
    assert open_bundle(str(kept)).digest == old.digest


Spoil = Callable[[Path], Any]
STRANGERS: dict[str, Spoil] = {
    "a project": lambda folder: (folder / "thesis.tex").write_text("years of work"),
    "another's manifest": lambda folder: (folder / "manifest.json").write_text('{"name": "app"}'),
    "another's bundle": lambda folder: (folder / "manifest.json").write_text(
        '{"format": "theirs", "files": {"manifest.json": 1}}'
    ),
    "a list": lambda folder: (folder / "manifest.json").write_text("[1]"),
    "no JSON": lambda folder: (folder / "manifest.json").write_text("Manifest-Version: 1.0"),
    "a folder": lambda folder: (folder / "manifest.json").mkdir(),
    "hidden": lambda folder: (folder / ".git").mkdir(),
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_a_folder_of_other_things_is_never_replaced(old: Bundle, place: Path, kind: str) -> None:
    place.mkdir(parents=True)
    STRANGERS[kind](place)
    before = everything_in(place), sorted(place.iterdir())
    with pytest.raises(BundleError, match="holds other files"):
        check_destination(str(place))
    refusal(old, place)
    assert (everything_in(place), sorted(place.iterdir())) == before


def test_a_bundle_with_a_persons_own_notes_in_it_is_not_replaced(
    old: Bundle, new: Bundle, place: Path
) -> None:
    write(old, place)
    (place / "notes.txt").write_text("why we rolled back")
    assert "notes.txt" in refusal(new, place)
    (place / "notes.txt").unlink()
    write(new, place)


@pytest.mark.parametrize("change", [{"schema_version": 99}, {"features": []}, {"surprise": 1}])
def test_a_bundle_this_release_cannot_read_may_still_be_replaced(
    old: Bundle, place: Path, change: dict[str, Any]
) -> None:
    write(old, place)
    content = json.loads((place / "manifest.json").read_bytes())
    (place / "manifest.json").write_text(json.dumps({**content, **change}))
    (place / "xgboost.ubj").unlink()
    assert write(old, place) == open_bundle(str(place)).digest


@pytest.mark.parametrize("path", ["../x", "/x", "a/../x", "manifest.json", "a b", ""])
def test_what_could_not_be_opened_again_is_not_written(old: Bundle, place: Path, path: str) -> None:
    with pytest.raises(BundleError, match="not a plain path"):
        write_bundle(str(place), old.manifest, {**old.files, path: b""})
    without = {name: data for name, data in old.files.items() if name != "novelty.f32"}
    with pytest.raises(BundleError, match=r"'novelty\.f32' is used but not listed"):
        write_bundle(str(place), old.manifest, without)
    assert not place.parent.exists()


def test_a_reader_during_replacements_sees_one_bundle_or_the_other_or_a_clear_error(
    old: Bundle, new: Bundle, place: Path
) -> None:
    write(old, place)
    seen: list[str] = []
    errors: list[Exception] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                seen.append(open_bundle(str(place)).digest)
            except Exception as error:
                errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for at in range(16):
        write((new, old)[at % 2], place)
    done.set()
    for reader in readers:
        reader.join()
    assert set(seen) <= {old.digest, new.digest}
    assert seen
    for error in errors:
        assert isinstance(error, BundleError)
        assert str(place) in str(error)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that plays an object store: every URI leads into it, and it is not local."""
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    remote = fs.SubTreeFileSystem(str(bucket), fs.LocalFileSystem())
    monkeypatch.setattr(sentinel.bundle, "_locate", lambda uri: (remote, uri.split("://")[1]))
    return bucket


def test_a_bundle_in_an_object_store_opens_as_the_same(
    old: Bundle, new: Bundle, store: Path
) -> None:
    assert write(old, "s3://models/live") == open_bundle("s3://models/live").digest == old.digest
    assert everything_in(store / "models" / "live").keys() == {*old.files, "manifest.json"}
    write_bundle("s3://models/live", new.manifest, {**new.files, "plots/more.png": b""})
    for _ in range(2):  # the second time beside a plot that lingers
        assert write(new, "s3://models/live") == open_bundle("s3://models/live").digest


def test_the_manifest_comes_last_so_a_bundle_half_replaced_in_an_object_store_does_not_open(
    old: Bundle, new: Bundle, store: Path
) -> None:
    for file in sorted(old.files.keys() & new.files.keys()):
        folder = store / file.replace("/", "-")
        write(old, f"s3://{folder.name}")
        manifest = (folder / "manifest.json").read_bytes()
        (folder / file).unlink()
        (folder / file).mkdir()
        with pytest.raises(BundleError, match="cannot be written"):
            write(new, f"s3://{folder.name}")
        assert (folder / "manifest.json").read_bytes() == manifest
        with pytest.raises(BundleError, match=r"was changed|cannot be read"):
            open_bundle(f"s3://{folder.name}")


def test_files_named_as_if_they_were_packed_are_written_and_read_as_they_are(
    old: Bundle, store: Path
) -> None:
    packed = dict.fromkeys(("a.gz", "b.zst", "c.bz2", "d.lz4"), b"as they are")
    digest = write_bundle("s3://live", old.manifest, {**old.files, **packed})
    assert open_bundle("s3://live").digest == digest
    assert everything_in(store / "live")["a.gz"] == b"as they are"


def test_files_named_as_if_they_were_packed_are_read_as_they_are_from_disk(
    old: Bundle, place: Path
) -> None:
    digest = write_bundle(str(place), old.manifest, {**old.files, "a.gz": b"as they are"})
    assert open_bundle(str(place)).digest == digest


def test_an_object_store_with_other_things_in_the_folder_is_not_written_to(
    old: Bundle, store: Path
) -> None:
    (store / "live").mkdir()
    (store / "live" / "theirs.csv").write_text("1")
    with pytest.raises(BundleError, match="holds other files"):
        write(old, "s3://live")
    assert everything_in(store) == {"live/theirs.csv": b"1"}
