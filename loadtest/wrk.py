"""wrk, the load generator of the closed-loop measurements, and what it reports.

Bodies are read from a file and sent in turn, so that no two requests in a row are the same. wrk
runs a Lua program for each request; this one puts prepared pieces together, with the request's own
number and event time between them (see ``templates``).
"""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtest.templates import Fill, Slot, Template
from sentinel.errors import SentinelError

_SCRIPT = """\
local requests, at = {}, 0
local number, seconds, step
local function piece(file)
  local kind, length = file:read(1), file:read("*l")
  if kind == "=" then return file:read(tonumber(length)) end
  return nil, kind
end
local function body_of(file, kind, path)
  local pieces, slots, size = {}, {n = {}, s = {}, h = {}, w = {}}, 0
  for at = 1, tonumber(file:read("*l")) do
    local text, slot = piece(file)
    if slot then table.insert(slots[slot], at) end
    pieces[at] = text or ""
    size = size + (slot and ({n = 9, s = 20, h = 13, w = 4})[slot] or #text)
  end
  -- The head of a body as long as this one, whatever is in it.
  local whole = wrk.format("POST", path, {["Content-Type"] = kind}, string.rep("x", size))
  table.insert(pieces, 1, whole:sub(1, #whole - size))
  local none = not (slots.n[1] or slots.s[1] or slots.h[1] or slots.w[1])
  return {pieces = pieces, slots = slots, fixed = none and table.concat(pieces)}
end
function init(args)
  local file = io.open(args[1], "rb")
  number, seconds, step = tonumber(args[4]), tonumber(args[5]), tonumber(args[6])
  for _ = 1, tonumber(file:read("*l")) do
    requests[#requests + 1] = body_of(file, args[2], args[3])
  end
  file:close()
end
local function fill(made, slot, text)
  for _, at in ipairs(made.slots[slot]) do made.pieces[at + 1] = text end
end
local function word(value)
  local bytes = {}
  for at = 1, 4 do
    bytes[at] = value % 256
    value = math.floor(value / 256)
  end
  return string.char(unpack(bytes))
end
function request()
  at = at % #requests + 1
  local made = requests[at]
  if made.fixed then return made.fixed end
  number, seconds = number + 1, seconds + step
  local whole = math.floor(seconds)
  local stamp = os.date("!%Y-%m-%dT%H:%M:%SZ", whole)
  fill(made, "n", string.format("%09d", number))
  fill(made, "s", stamp)
  fill(made, "h", stamp:sub(1, 13))
  fill(made, "w", word(math.floor(whole * 1000000 / 4294967296)))
  return table.concat(made.pieces)
end
function done(summary, latency)
  local e = summary.errors
  local errors = e.connect + e.read + e.write + e.status + e.timeout
  local head = '{"requests": %d, "microseconds": %d, "errors": %d, '
  local shape = head .. '"p50": %d, "p95": %d, "p99": %d}'
  io.write(string.format(
    "\\nresult " .. shape .. "\\n", summary.requests, summary.duration,
    errors, latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
"""


NOTHING = Fill()
"""For bodies without slots."""

SPARE = 2
"""Requests that the script makes and wrk does not count, beside one a connection: those that it
asks for to look at."""


class NoWrk(SentinelError):
    """wrk is not installed, or did not do what it was asked."""


class Measured(msgspec.Struct, frozen=True):
    """What wrk saw: times in microseconds; ``errors`` counts every answer that was not a 2xx or
    3xx, and every connection that failed."""

    requests: int
    microseconds: int
    p50: int
    p95: int
    p99: int
    errors: int
    processor: int = 0
    """Microseconds of processor time that the contender used meanwhile; 0: nobody looked."""

    @property
    def rate(self) -> float:
        """Requests a second."""
        return 1e6 * self.requests / self.microseconds


def check_wrk() -> None:
    """:raises NoWrk: it is not on PATH."""
    if shutil.which("wrk") is None:
        raise NoWrk("wrk is not on PATH; Debian has it: apt-get install wrk")


def run_wrk(
    url: str,
    path: str,
    bodies: Sequence[Template],
    kind: str,
    *,
    connections: int,
    seconds: int,
    fill: Fill = NOTHING,
    cores: str | None = None,
) -> Measured:
    """Posts these bodies in turn over so many connections for so many whole seconds; kept to
    ``cores``, such as ``1``, or anywhere.

    :raises NoWrk: it failed, or reached nobody.
    """
    with tempfile.TemporaryDirectory() as folder:
        script, data = Path(folder) / "bench.lua", Path(folder) / "bodies"
        script.write_text(_SCRIPT)
        data.write_bytes(_written(bodies))
        # One thread: each would count for itself, and send the same ids.
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
        if cores is not None:
            command = ["taskset", "--cpu-list", cores, *command]
        command += ["-s", str(script), url, "--", str(data), kind, path]
        command += [repr(value) for value in (fill.number, fill.seconds, fill.step)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in ran.stdout.splitlines() if line.startswith("result ")]
    if ran.returncode or not lines:
        raise NoWrk(f"wrk failed on {url}{path}: {(ran.stderr or ran.stdout).strip()}")
    return msgspec.json.decode(lines[0].removeprefix("result "), type=Measured)


def _written(bodies: Sequence[Template]) -> bytes:
    """The file that the script reads: how many, and of each how many pieces, and those."""
    parts = [b"%d\n" % len(bodies)]
    for body in bodies:
        parts.append(b"%d\n" % len(body.pieces))
        parts += map(_piece, body.pieces)
    return b"".join(parts)


def _piece(piece: bytes | Slot) -> bytes:
    if isinstance(piece, Slot):
        return f"{piece}\n".encode()
    return b"=%d\n" % len(piece) + piece
