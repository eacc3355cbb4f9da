"""API keys: hashed, scoped, compared in constant time, read again when their file changes."""

import base64
import hashlib
from pathlib import Path

import pytest

from serve_app.keys import ApiKeys, KeysError, add_key, read_keys
from serve_app.problems import Problem


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def bearer(key: str) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {key}".encode()}


def refused(keys: ApiKeys, headers: dict[bytes, bytes], scope: str = "score") -> Problem:
    with pytest.raises(Problem) as error:
        keys.require(headers, scope)  # type: ignore[arg-type]
    return error.value


def test_a_key_opens_its_scopes_and_no_others(file: Path) -> None:
    secret = add_key(file, "checkout", ("score", "read"))
    keys = ApiKeys(str(file))
    assert keys.require(bearer(secret), "score") == "checkout"
    assert keys.require({b"x-api-key": secret.encode()}, "read") == "checkout"
    basic = base64.b64encode(f"anyone:{secret}".encode())
    assert keys.require({b"authorization": b"Basic " + basic}, "read") == "checkout"
    problem = refused(keys, bearer(secret), "label")
    assert (problem.status, problem.members["expected"]) == (403, "label")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"authorization": b""},
        {b"authorization": b"Bearer"},
        {b"authorization": b"Bearer wrong"},
        {b"authorization": b"Digest x"},
        {b"authorization": b"Basic !!!"},
        {b"authorization": b"Basic " + base64.b64encode(b"no colon")},
        {b"x-api-key": b"\xff\xfe"},
    ],
)
def test_no_key_and_an_unknown_key_are_a_401_that_says_how(
    file: Path, headers: dict[bytes, bytes]
) -> None:
    add_key(file, "checkout", ("score",))
    problem = refused(ApiKeys(str(file)), headers)
    assert problem.status == 401
    assert "Bearer" in problem.headers["www-authenticate"]


def test_the_file_holds_hashes_alone_and_is_for_its_owner(file: Path) -> None:
    secret = add_key(file, "checkout", ("score",))
    text = file.read_text()
    assert secret not in text
    assert hashlib.sha256(secret.encode()).hexdigest() in text
    assert file.stat().st_mode & 0o077 == 0


def test_two_keys_are_told_apart_and_a_name_is_given_once(file: Path) -> None:
    first, second = add_key(file, "a", ("score",)), add_key(file, "b", ("read",))
    keys = ApiKeys(str(file))
    assert keys.require(bearer(first), "score") == "a"
    assert refused(keys, bearer(second)).status == 403
    with pytest.raises(KeysError, match="a key a already"):
        add_key(file, "a", ("read",))


def test_a_changed_file_is_read_again(file: Path) -> None:
    old = add_key(file, "old", ("score",))
    keys = ApiKeys(str(file))
    file.unlink()
    new = add_key(file, "new", ("score",))
    keys.refresh()
    assert keys.require(bearer(new), "score") == "new"
    assert refused(keys, bearer(old)).status == 401


def test_the_last_key_is_withdrawn_by_an_empty_list(file: Path) -> None:
    secret = add_key(file, "checkout", ("score",))
    keys = ApiKeys(str(file))
    file.write_text("keys: []")
    keys.refresh()
    assert refused(keys, bearer(secret)).status == 401


@pytest.mark.parametrize("damage", ["gone", "nonsense"])
def test_a_file_that_cannot_be_read_any_more_leaves_the_keys_as_they_were(
    file: Path, damage: str
) -> None:
    secret = add_key(file, "checkout", ("score",))
    keys = ApiKeys(str(file))
    if damage == "gone":
        file.unlink()
    else:
        file.write_text("keys: [")
    keys.refresh()
    assert keys.require(bearer(secret), "score") == "checkout"


HASH = "0" * 64


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "keys.yaml"),
        ("keys: [{name: a, sha256: abc, scopes: [score]}]", "sha256"),
        (f"keys: [{{name: a, sha256: '{HASH}', scopes: [root]}}]", "root"),
        (f"keys: [{{name: a, sha256: '{HASH}', scopes: []}}]", "scopes"),
        (f"keys: [{{name: a, sha256: '{HASH}', scopes: [score], x: 1}}]", "x"),
        (
            f"keys: [{{name: a, sha256: '{HASH}', scopes: [score]}}, "
            f"{{name: b, sha256: '{HASH}', scopes: [score]}}]",
            "given twice",
        ),
        ("keys: {{", "keys.yaml"),
    ],
)
def test_a_file_that_is_not_of_keys_is_refused_in_one_line(
    file: Path, text: str, complaint: str
) -> None:
    file.write_text(text)
    with pytest.raises(KeysError, match=complaint) as refused:
        read_keys(file)
    assert "\n" not in str(refused.value)
    with pytest.raises(KeysError, match="No such file"):
        read_keys(file.with_name("missing"))
