"""Clients as they are: slow, impatient, in a hurry, and many."""

import json
import socket
import threading
import time

import httpx
import pytest

from tests.serve.load import row_of
from tests.serve.serving import Row, Served, assert_same_answer, offline


def raw(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.client.base_url.port or 0), timeout=30)


def request(row: Row, length: int | None = None) -> bytes:
    body = json.dumps(row).encode()
    size = len(body) if length is None else length
    head = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n"
    return f"{head}content-type: application/json\r\n\r\n".encode() + body


def answers(connection: socket.socket, count: int) -> list[dict[str, object]]:
    """So many answers in the order they come on this connection."""
    file, found = connection.makefile("rb"), []
    while len(found) < count:
        status = file.readline().split()
        assert status[1] == b"200", status
        length = 0
        while line := file.readline().strip():
            name, _, value = line.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        found.append(json.loads(file.read(length)))
    return found


def test_a_slow_client_is_answered_and_keeps_nobody_waiting(served: Served) -> None:
    row = row_of(1, "slow")
    with raw(served) as connection:
        sent = request(row)
        took = []
        for at in range(0, len(sent), 40):
            connection.sendall(sent[at : at + 40])
            start = time.monotonic()
            served.predict(row_of(at, "quick"))
            took.append(time.monotonic() - start)
            time.sleep(0.1)
        (answer,) = answers(connection, 1)
    assert_same_answer(answer, offline(served.bundle, [row])[0], 1e-6)
    assert max(took) < 1


def test_a_client_that_goes_in_the_middle_harms_nobody(served: Served) -> None:
    for number in range(20):
        with raw(served) as connection:
            whole = request(row_of(number, "gone"))
            connection.sendall(whole[: 60 + 7 * number])
        with raw(served) as connection:
            connection.sendall(whole)  # all of it, and away before the answer
    row = row_of(7, "stays")
    assert_same_answer(served.predict(row), offline(served.bundle, [row])[0], 1e-6)


def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    rows = [row_of(number, "pipe") for number in range(20)]
    with raw(served) as connection:
        connection.sendall(b"".join(request(row) for row in rows))
        found = answers(connection, len(rows))
    for answer, expected in zip(found, offline(served.bundle, rows), strict=True):
        assert_same_answer(answer, expected, 1e-6)


def test_sixty_four_connections_are_kept_and_each_gets_its_own_answers(served: Served) -> None:
    wrong: list[str] = []

    def ask(client_number: int) -> None:
        rows = [row_of(1_000 * client_number + n, "keep") for n in range(10)]
        with raw(served) as connection:
            for row in rows:
                connection.sendall(request(row))
                (answer,) = answers(connection, 1)
                if answer["transaction_id"] != row["transaction_id"]:
                    wrong.append(str(row["transaction_id"]))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_body_shorter_than_it_says_does_not_wait_for_ever(served: Served) -> None:
    with raw(served) as connection:
        connection.sendall(request(row_of(1, "short"), length=5_000))
        start = time.monotonic()
        status = connection.makefile("rb").readline()
        assert b" 408 " in status
        assert time.monotonic() - start < 25


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_a_chunked_body_is_read(served: Served, path: str) -> None:
    row = dict(row_of(3, "chunks"))
    body = json.dumps(row if path == "/predict" else [row]).encode()

    def pieces() -> object:
        for at in range(0, len(body), 50):
            yield body[at : at + 50]

    answer = served.client.post(
        path,
        content=pieces(),  # type: ignore[arg-type]
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 200
    found = answer.json() if path == "/predict" else answer.json()["results"][0]
    assert found["transaction_id"] == row["transaction_id"]


def test_an_answer_says_its_length_and_type(served: Served) -> None:
    answer: httpx.Response = served.client.post("/predict", json=dict(row_of(1)))
    assert answer.headers["content-type"] == "application/json"
    assert int(answer.headers["content-length"]) == len(answer.content)
