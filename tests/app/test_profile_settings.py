"""Where profiles are kept, as the Serve config says it: above all a password that is not in it."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from deployments.profile_settings import ProfileSettings
from sentinel.errors import UsageError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("s3cret#/@:word\n")
    return file


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("redis://host:6379/1", "redis://:s3cret%23%2F%40%3Aword@host:6379/1"),
        ("rediss://app@host", "rediss://app:s3cret%23%2F%40%3Aword@host"),
        ("redis+cluster://host?x=a@b", "redis+cluster://:s3cret%23%2F%40%3Aword@host?x=a@b"),
    ],
)
def test_the_password_of_a_file_is_put_into_the_address(
    file: Path, uri: str, expected: str
) -> None:
    settings = ProfileSettings(uri=uri, password_file=str(file))
    assert settings.redis_uri() == expected
    assert "s3cret" not in settings.model_dump_json()


def test_without_a_file_the_address_is_as_it_was_given() -> None:
    assert ProfileSettings(uri="redis://u:p@host").redis_uri() == "redis://u:p@host"


def test_a_file_that_holds_no_password_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for path in (empty, tmp_path / "missing"):
        with pytest.raises(UsageError, match=str(path)):
            ProfileSettings(uri="redis://host", password_file=str(path)).redis_uri()


@pytest.mark.parametrize("uri", [None, "/snapshots/one", "redis://:already@host"])
def test_a_password_that_nothing_asks_for_is_refused(uri: str | None) -> None:
    with pytest.raises(ValidationError, match="password_file needs a uri of Redis") as refused:
        ProfileSettings(uri=uri, password_file="/p")
    assert "already" not in str(refused.value.errors()[0]["msg"])
