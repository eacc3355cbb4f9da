"""A bundle: a directory at any URI, with a manifest and the files it names by their hashes.

It is written whole or not at all and verified whole when opened, so that whoever serves it serves
what was trained. ``docs/bundle.md`` describes the files.
"""

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from sentinel.attribution import TreeAttribution, attribution_of
from sentinel.calibration import NoveltyCalibration
from sentinel.ensemble import read_trees
from sentinel.errors import BundleError
from sentinel.features import feature_set
from sentinel.manifest import FileEntry, Manifest, ModelEntry, digest_of, parse_manifest
from sentinel.reasons import Explainer
from sentinel.runtime import TreeModel
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE, Judge, Lane, LocalLanes

MANIFEST = "manifest.json"
_MANIFEST_LIMIT = 16 * 2**20
_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: every byte has been held against its hash."""

    uri: str
    digest: str
    manifest: Manifest
    files: Mapping[str, bytes]

    def lane(self, name: str, *, threads: int = 1) -> Lane:
        """One of its models, ready to score.

        :raises BundleError: its bytes are no model of as many features and trees as the manifest
            says.
        """
        entry = self.manifest.models[name]
        try:
            model = TreeModel(self.files[entry.file], threads=threads)
        except BundleError as error:
            raise BundleError(f"{self.uri}: {entry.file}: {error}") from error
        self._check_size(entry, model.features, model.trees)
        return Lane(name, model)

    def _check_size(self, entry: ModelEntry, features: int, trees: int) -> None:
        found = f"{features} features and {trees} trees"
        stated = f"{len(self.manifest.features)} features and {entry.trees} trees"
        if found != stated:
            raise BundleError(f"{self.uri}: {entry.file} has {found}, the manifest says {stated}")

    def lanes(self, *, threads: int = 1) -> LocalLanes:
        """All of its models in this process."""
        names = self.manifest.models
        return LocalLanes(self.digest, {name: self.lane(name, threads=threads) for name in names})

    @property
    def profiles(self) -> bytes | None:
        """The snapshot of profiles that it carries, if any."""
        entry = self.manifest.profiles
        return None if entry is None else self.files[entry.file]

    def judge(self) -> Judge:
        """All that is needed around the lanes.

        :raises BundleError: the novelty window is not one of as many rows as the manifest says, or
            a model is not what the manifest says.
        """
        description = self.manifest.description
        entry = self.manifest.novelty
        try:
            novelty = NoveltyCalibration.from_bytes(self.files[entry.file])
        except ValueError as error:
            raise BundleError(f"{self.uri}: {entry.file}: {error}") from error
        if len(novelty) != entry.rows:
            raise BundleError(
                f"{self.uri}: {entry.file} has {len(novelty)} rows, the manifest says {entry.rows}"
            )
        return Judge(
            digest=self.digest,
            description=description,
            features=feature_set(description),
            calibration=self.manifest.calibration,
            novelty=novelty,
            explainer=Explainer(description, *map(self._attribution, (FRAUD_LANE, NOVELTY_LANE))),
        )

    def _attribution(self, lane: str) -> TreeAttribution | None:
        entry = self.manifest.models[lane]
        try:
            trees = read_trees(self.files[entry.file])
        except BundleError as error:
            raise BundleError(f"{self.uri}: {entry.file}: {error}") from error
        self._check_size(entry, trees.features, len(trees))
        return attribution_of(trees)


def open_bundle(uri: str) -> Bundle:
    """The bundle at a plain path or any URI that ``pyarrow.fs`` takes.

    :raises BundleError: not there, a file missing or changed, a newer schema, an unknown feature,
        a path that leaves the folder.
    """
    filesystem, root = _locate(uri)
    raw = _read(filesystem, root, MANIFEST, _MANIFEST_LIMIT, uri)
    manifest = parse_manifest(raw, uri)
    files = {}
    for path, entry in manifest.files.items():
        data = _read(filesystem, root, path, entry.size, uri)
        found = FileEntry.of(data)
        if found != entry:
            raise BundleError(
                f"{uri}: {path} was changed: it has {found.size} bytes with SHA-256 "
                f"{found.sha256}, the manifest says {entry.size} with {entry.sha256}"
            )
        files[path] = data
    return Bundle(uri, digest_of(raw), manifest, files)


def read_file(uri: str) -> bytes | None:
    """A single file at a plain path or URI, such as a snapshot of profiles; ``None`` without one.

    :raises BundleError: it cannot be read.
    """
    filesystem, place = _locate(uri)
    try:
        if filesystem.get_file_info(place).type == fs.FileType.NotFound:
            return None
        with filesystem.open_input_stream(place, compression=None) as stream:
            return bytes(stream.read())
    except (OSError, ValueError) as error:
        raise BundleError(f"{uri} cannot be read: {error}") from error


def check_writable(uri: str) -> None:
    """Whether ``write_file`` could write there, asked before anything worth writing exists.

    :raises BundleError: it could not.
    """
    trial = f"{uri}.trial-{secrets.token_hex(4)}"
    write_file(trial, b"")
    filesystem, place = _locate(trial)
    filesystem.delete_file(place)


def write_file(uri: str, data: bytes) -> None:
    """Writes a single file, on a local disk whole or not at all.

    :raises BundleError: it cannot be written.
    """
    filesystem, place = _locate(uri)
    local = isinstance(filesystem, fs.LocalFileSystem)
    written = f"{place}.partial-{secrets.token_hex(4)}" if local else place
    try:
        with filesystem.open_output_stream(written, compression=None) as stream:
            stream.write(data)
        if local:
            filesystem.move(written, place)
    except (OSError, ValueError) as error:
        raise BundleError(f"{uri} cannot be written: {error}") from error


def check_destination(uri: str) -> None:
    """Whether anything here stands in a bundle's way, asked before the long work of making it.

    Whether the place can be written is only found out by writing.

    :raises BundleError: there is something else than a bundle, or the place cannot be reached.
    """
    filesystem, root = _locate(uri)
    try:
        found = filesystem.get_file_info(root)
        if found.type == fs.FileType.NotFound:
            return
        if found.type != fs.FileType.Directory:
            raise BundleError(f"{uri} is a file; expected a new folder, or a bundle to replace")
        inside = filesystem.get_file_info(fs.FileSelector(root))
    except (OSError, ValueError) as error:
        raise BundleError(f"{uri}: {error}") from error
    names = {entry.base_name for entry in inside}
    ours = _names_of_bundle(filesystem, root, uri) if MANIFEST in names else set()
    # Only on a local disk does writing remove what was there; elsewhere old plots may linger.
    others = names - ours if isinstance(filesystem, fs.LocalFileSystem) or not ours else set()
    if others:
        some = ", ".join(sorted(others)[:3])
        raise BundleError(
            f"{uri} holds other files ({some}); expected a new folder, or a bundle to replace"
        )


def _names_of_bundle(filesystem: fs.FileSystem, root: str, uri: str) -> set[str]:
    """What the folder of a bundle holds by its manifest, whichever release wrote it.

    Nothing if the manifest is something else's: the name is a common one.
    """
    try:
        content = json.loads(_read(filesystem, root, MANIFEST, _MANIFEST_LIMIT, uri))
        ours = content["format"] == "sentinelstream-bundle"
        return {MANIFEST, *(path.split("/")[0] for path in content["files"])} if ours else set()
    except (BundleError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return set()


def write_bundle(uri: str, manifest: Manifest, files: Mapping[str, bytes]) -> str:
    """Writes a bundle and returns its digest; ``manifest.files`` is filled in from ``files``.

    On a local disk the folder appears whole, in one rename; an older bundle is moved aside right
    before it, and back if that fails. Elsewhere the manifest is written last: until then there is
    no bundle, or one that does not verify.

    :raises BundleError: the place holds something else, or cannot be written.
    """
    entries = {path: FileEntry.of(files[path]) for path in sorted(files)}
    raw = manifest.model_copy(update={"files": entries}).to_bytes()
    parse_manifest(raw, uri)  # what could not be read back is not written
    check_destination(uri)
    filesystem, root = _locate(uri)
    contents = {**files, MANIFEST: raw}
    try:
        if isinstance(filesystem, fs.LocalFileSystem):
            _write_local(Path(root), contents)
        else:
            _write_in_order(filesystem, root, contents)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BundleError(f"{uri}: cannot be written: {error}") from error
    return digest_of(raw)


def _locate(uri: str) -> tuple[fs.FileSystem, str]:
    if not uri.strip():
        raise BundleError(f"{uri!r} is no place for a bundle; expected a path or a URI")
    if "://" not in uri:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(uri))
    try:
        filesystem, path = fs.FileSystem.from_uri(uri)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BundleError(f"{uri}: {error}") from error
    return filesystem, path.rstrip("/") or path


def _read(filesystem: fs.FileSystem, root: str, path: str, limit: int, uri: str) -> bytes:
    """At most ``limit`` bytes of a file inside the bundle."""
    place = f"{root}/{path}"
    try:
        if isinstance(filesystem, fs.LocalFileSystem):
            real = os.path.realpath(place)
            if not real.startswith(os.path.realpath(root) + os.sep):
                raise BundleError(f"{uri}: {path} leads out of the bundle, to {real}")
        # By default pyarrow would unpack what is called .gz.
        with filesystem.open_input_stream(place, compression=None) as stream:
            data = _read_at_most(stream, limit + 1)
    except FileNotFoundError as error:
        if path == MANIFEST:
            raise BundleError(f"{uri}: there is no bundle (no {MANIFEST})") from error
        raise BundleError(f"{uri}: {path} is missing") from error
    except (OSError, ValueError) as error:
        raise BundleError(f"{uri}: {path} cannot be read: {error}") from error
    if len(data) > limit:
        raise BundleError(f"{uri}: {path} was changed: it is longer than {limit} bytes")
    return data


def _read_at_most(stream: pa.NativeFile, limit: int) -> bytes:
    """In pieces: a limit from an edited manifest may be more than there is memory."""
    pieces: list[bytes] = []
    while limit > 0 and (piece := stream.read(min(limit, _CHUNK))):
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)


def _write_local(root: Path, contents: Mapping[str, bytes]) -> None:
    root = root.resolve()  # what a symbolic link points to is replaced, not the link
    attempt = secrets.token_hex(4)
    partial = root.with_name(f".{root.name}.partial-{attempt}")
    replaced = root.with_name(f".{root.name}.replaced-{attempt}")
    root.parent.mkdir(parents=True, exist_ok=True)
    try:
        for path, data in contents.items():
            place = partial / path
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        if root.exists():
            root.rename(replaced)
        partial.rename(root)
    except BaseException:
        if replaced.exists() and not root.exists():
            replaced.rename(root)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if root.exists():  # never the only copy
            shutil.rmtree(replaced, ignore_errors=True)


def _write_in_order(filesystem: fs.FileSystem, root: str, contents: Mapping[str, bytes]) -> None:
    for path, data in contents.items():
        folder = f"{root}/{path}".rsplit("/", 1)[0]
        filesystem.create_dir(folder, recursive=True)
        with filesystem.open_output_stream(f"{root}/{path}", compression=None) as stream:
            stream.write(data)
