"""Files of transactions to score, of any number and size: found, told apart, cut into pieces.

A piece is what one worker reads at once: rows of a Parquet file's row group, or lines of a CSV
file. Pieces depend on the files alone.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from sentinel.csv_rows import CsvParser, header_of
from sentinel.dataset import DatasetDescription
from sentinel.errors import InvalidTransactions, TableError, UsageError
from sentinel.parse_arrow import ArrowParser
from sentinel.parsing import Parsed
from sentinel.row_tables import to_table
from sentinel.table import column_names, renamed, with_ids

PIECE_ROWS = 1 << 17
"""Rows of a Parquet piece, and most rows of a table that is read: some 35 MB of 30 numbers."""
PIECE_BYTES = 8 << 20
"""Bytes of a CSV piece: about as many rows, if they have 64 bytes."""
_MOST_PIECES = 16
"""Pieces of one row group at most: each has to read over those before it."""
_SUFFIXES = (".parquet", ".pq", ".csv")
_PARQUET_MAGIC = b"PAR1"
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class InputFile:
    """A Parquet or CSV file. ``changed``: nanoseconds since 1970, 0 where it is not known."""

    path: str
    parquet: bool
    size: int
    changed: int
    filesystem: fs.FileSystem = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows ``start`` to ``stop`` of a Parquet file's row ``group``, or such bytes of a CSV file
    whose columns are ``header``."""

    file: InputFile
    start: int
    stop: int
    group: int = 0
    header: tuple[str, ...] = ()

    @property
    def rows(self) -> int | None:
        """How many; ``None`` where one must read it to know."""
        return self.stop - self.start if self.file.parquet else None


def fingerprint(files: Sequence[InputFile]) -> str:
    """A digest of which files these are, by path, size and time of change."""
    digest = hashlib.sha256()
    for each in files:
        digest.update(f"{each.path}\0{each.size}\0{each.changed}\0".encode())
    return digest.hexdigest()


def find_files(places: Sequence[str]) -> list[InputFile]:
    """The files at these paths or URIs, each a file, a folder or a glob, in the given order, those
    of a folder or glob by name.

    Of a folder all that ends in .parquet, .pq or .csv counts, at any depth, unless a name begins
    with ``_`` or ``.``.

    :raises TableError: there is nothing, or something else.
    :raises UsageError: the same file twice.
    """
    found = [file for place in places for file in _files_at(place)]
    path, times = Counter(file.path for file in found).most_common(1)[0]
    if times > 1:
        raise UsageError(f"--data: {path} is named {times} times; expected each file once")
    return found


def _files_at(place: str) -> Iterator[InputFile]:
    filesystem, path = _located(place)
    try:
        info = filesystem.get_file_info(path)
        if info.type != fs.FileType.NotFound:
            infos = [info]
        elif _MAGIC.search(path):
            infos = _matching(filesystem, path)
        else:
            raise TableError(f"{place}: there is no such file")
        files = [each for one in infos for each in _inside(filesystem, one)]
        if not files:
            raise TableError(f"{place}: there are no files that end in {', '.join(_SUFFIXES)}")
        for each in files:
            yield _told_apart(filesystem, each)
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"{place}: {' '.join(str(error).split())}") from error


def _located(place: str) -> tuple[fs.FileSystem, str]:
    if "://" not in place:
        return fs.LocalFileSystem(), os.path.abspath(os.path.expanduser(place))
    try:
        return fs.FileSystem.from_uri(place)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise TableError(f"{place}: {error}") from error


def _matching(filesystem: fs.FileSystem, path: str) -> list[fs.FileInfo]:
    """What matches a glob: ``*``, ``?`` and ``[…]`` within one name, ``**`` over folders.

    In a URI, where the others mean something else, the stars alone.
    """
    parts = path.split("/")
    fixed = next(at for at, part in enumerate(parts) if _MAGIC.search(part))
    base = "/".join(parts[:fixed]) or "/"
    selector = fs.FileSelector(base, allow_not_found=True, recursive=fixed < len(parts) - 1)
    pattern = re.compile(_pattern(path))
    infos = [
        info
        for info in filesystem.get_file_info(selector)
        if pattern.fullmatch(info.path) and _is_shown(info.path, base)
    ]
    return sorted(infos, key=lambda info: info.path)


def _pattern(path: str) -> str:
    """The regular expression of a glob."""
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\])", path)
    return "".join(
        wild.get(piece) or (piece.replace("[!", "[^") if at % 2 else re.escape(piece))
        for at, piece in enumerate(pieces)
    )


def _inside(filesystem: fs.FileSystem, info: fs.FileInfo) -> list[fs.FileInfo]:
    """The file itself, or the tables in the folder."""
    if info.type != fs.FileType.Directory:
        return [info]
    found = filesystem.get_file_info(fs.FileSelector(info.path, recursive=True))
    return sorted(
        (
            each
            for each in found
            if each.type == fs.FileType.File
            and each.path.lower().endswith(_SUFFIXES)
            and _is_shown(each.path, info.path)
        ),
        key=lambda each: each.path,
    )


def _is_shown(path: str, base: str) -> bool:
    return not any(part.startswith(("_", ".")) for part in path.removeprefix(base).split("/"))


def _told_apart(filesystem: fs.FileSystem, info: fs.FileInfo) -> InputFile:
    with filesystem.open_input_file(info.path) as stream:
        start = stream.read(4096)
    if not start:
        raise TableError(f"{info.path}: is empty; expected Parquet or CSV")
    parquet = start.startswith(_PARQUET_MAGIC)
    if not parquet and b"\0" in start:
        raise TableError(f"{info.path}: is neither Parquet nor CSV")
    return InputFile(info.path, parquet, info.size, info.mtime_ns or 0, filesystem)


def pieces_of(file: InputFile, description: DatasetDescription) -> list[Piece]:
    """The pieces of a file in order; all its columns are checked before.

    :raises TableError: a column is missing, given twice or of a wrong type, or it is unreadable.
    """
    try:
        with file.filesystem.open_input_file(file.path) as stream:
            cut = _parquet_pieces if file.parquet else _csv_pieces
            return list(cut(file, stream, description))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())[:300]
        raise TableError(f"{file.path}: cannot be read as Parquet or CSV: {text}") from error


def check_files(files: Sequence[InputFile], description: DatasetDescription) -> list[Piece]:
    """The pieces of all files in order, whose columns have been checked.

    :raises TableError: one of them cannot be used.
    """
    with ThreadPoolExecutor(16) as threads:  # most of it is waiting, if they are far away
        cut = threads.map(lambda file: pieces_of(file, description), files)
        return [piece for pieces in cut for piece in pieces]


def _parquet_pieces(
    file: InputFile, stream: pa.NativeFile, description: DatasetDescription
) -> Iterator[Piece]:
    content = pq.ParquetFile(stream)
    names = _names(content, description)
    schema = pa.schema([each for each in content.schema_arrow if each.name in names])
    _parsed(schema.empty_table(), file.path, ArrowParser(description), description)
    for group in range(content.num_row_groups):
        rows = content.metadata.row_group(group).num_rows
        step = max(PIECE_ROWS, -(-rows // _MOST_PIECES))
        for start in range(0, rows, step):
            yield Piece(file, start, min(start + step, rows), group)


def _names(content: pq.ParquetFile, description: DatasetDescription) -> list[str]:
    known = column_names(description.inputs)
    return [name for name in content.schema_arrow.names if name in known]


def _parsed(
    table: pa.Table, path: str, parser: ArrowParser, description: DatasetDescription, first: int = 0
) -> Parsed:
    named = with_ids(renamed(table, description, path, labelled=False), description, first)
    try:
        return parser.table(named)
    except InvalidTransactions as error:
        raise TableError(f"{path}: {error}") from error


def _csv_pieces(
    file: InputFile, stream: pa.NativeFile, description: DatasetDescription
) -> Iterator[Piece]:
    window = stream.read(PIECE_BYTES)
    end = window.find(b"\n") + 1 or len(window)
    header = header_of(window[:end])
    CsvParser(description).rows(b"", header, file.path, 0)
    start = end
    while start < file.size:
        stream.seek(start)
        window = stream.read(PIECE_BYTES)
        whole = start + len(window) >= file.size
        stop = start + (len(window) if whole else _end_of_lines(window))
        yield Piece(file, start, stop, header=header)
        start = stop


def _end_of_lines(window: bytes) -> int:
    """Where the last whole line ends. A newline between quotes is in a cell; if all are, there is a
    quote too many, and lines are lines."""
    end = window.rfind(b"\n") + 1
    last = end
    quotes = window.count(b'"', 0, end)
    while end and quotes % 2:
        before = window.rfind(b"\n", 0, end - 1) + 1
        quotes -= window.count(b'"', before, end)
        end = before
    if not last:
        raise TableError(f"a line has more than {len(window):,} bytes; expected CSV")
    return end or last


class RowReader:
    """Reads pieces of the files of one description."""

    def __init__(self, description: DatasetDescription) -> None:
        self._description = description
        self._csv = CsvParser(description)
        self._arrow = ArrowParser(description)

    def tables(self, piece: Piece, first: int) -> Iterator[pa.Table]:
        """The rows of a piece, the first of which is row ``first`` of the whole input, as
        ``row_tables`` describes; at most ``PIECE_ROWS`` at once of a Parquet file.

        :raises TableError: it cannot be read, or a whole column cannot be used.
        """
        path = piece.file.path
        try:
            with piece.file.filesystem.open_input_file(path) as stream:
                if not piece.file.parquet:
                    stream.seek(piece.start)
                    text = stream.read(piece.stop - piece.start)
                    parsed = self._csv.rows(text, piece.header, path, first)
                    yield to_table(parsed, self._description, first)
                    return
                for table in self._parquet(stream, piece):
                    parsed = _parsed(table, path, self._arrow, self._description, first)
                    yield to_table(parsed, self._description, first)
                    first += table.num_rows
        except (pa.ArrowException, OSError) as error:
            text = " ".join(str(error).split())[:300]
            raise TableError(f"{path}: cannot be read: {text}") from error

    def empty(self) -> pa.Table:
        """A table without rows."""
        fields = self._description.inputs
        nothing = pa.table({name: pa.nulls(0) for name in fields})
        return to_table(self._arrow.table(nothing), self._description, 0)

    def _parquet(self, stream: pa.NativeFile, piece: Piece) -> Iterator[pa.Table]:
        content = pq.ParquetFile(stream)
        batches = content.iter_batches(
            PIECE_ROWS,
            row_groups=[piece.group],
            columns=_names(content, self._description),
            use_threads=False,
        )
        at = 0
        for batch in batches:
            wanted = slice(max(piece.start - at, 0), min(piece.stop - at, len(batch)))
            if wanted.start < wanted.stop:
                yield pa.Table.from_batches([batch[wanted]])
            at += len(batch)
            if at >= piece.stop:
                return
