"""Tables of ``bench/`` are written where pages show them, and nowhere else."""

from pathlib import Path

import pytest

from loadtest.figures import NoPlace, Shown, tables_of, write_figures

PAGE = """\
# Product

| stays | as it is |
|---|---|

## Speed

In words.

| old | figure |
| --- | ---: |
| limit | 1 |

More words.

### Detail

| older | figure |
| --- | ---: |

## After

| stays | too |
|---|---|
"""
NEW = "| new | figure |\n| --- | ---: |\n| limit | 2 |\n"
NEXT = "| next | figure |\n| --- | ---: |\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "serving.md").write_text(f"{NEW}\n{NEXT}")
    (tmp_path / "README.md").write_text(PAGE)
    return tmp_path


def shown(heading: str, *tables: int, file: str = "serving.md") -> list[Shown]:
    return [Shown("README.md", heading, file, list(tables))]


def test_the_tables_under_a_heading_are_replaced_in_order_and_all_else_stays(root: Path) -> None:
    assert write_figures(root, shown("Speed", 0, 1)) == ["README.md"]
    written = (root / "README.md").read_text()
    assert tables_of(written)[1:3] == [NEW, NEXT]
    expected = PAGE.replace(tables_of(PAGE)[1], NEW).replace(tables_of(PAGE)[2], NEXT)
    assert written == expected


def test_a_heading_below_another_is_a_place_of_its_own(root: Path) -> None:
    write_figures(root, shown("Detail", 1))
    assert (root / "README.md").read_text() == PAGE.replace(tables_of(PAGE)[2], NEXT)


def test_to_write_again_changes_nothing(root: Path) -> None:
    write_figures(root, shown("Speed", 0, 1))
    assert write_figures(root, shown("Speed", 0, 1)) == []


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (shown("Quality", 0), "no heading 'Quality'"),
        (shown("Speed", 0), "2 tables under 'Speed', expected 1"),
        (shown("Detail", 2), "has 2 tables"),
    ],
)
def test_a_page_without_the_place_is_refused_and_nothing_is_written(
    root: Path, places: list[Shown], said: str
) -> None:
    with pytest.raises(NoPlace, match=said):
        write_figures(root, [*shown("Speed", 0, 1), *places])
    assert (root / "README.md").read_text() == PAGE
