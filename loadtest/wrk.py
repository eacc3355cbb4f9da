"""wrk, the load generator of the closed-loop measurements, and what it reports.

Bodies are read from a file and sent in turn, so that no two requests in a row are the same. wrk
runs a Lua program for each request; this one picks a prepared string.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sentinel.errors import SentinelError

_SCRIPT = """\
local requests, at = {}, 0
function init(args)
  local file = io.open(args[1], "rb")
  local kind, path = args[2], args[3]
  while true do
    local length = file:read("*l")
    if not length then break end
    local body = file:read(tonumber(length))
    requests[#requests + 1] = wrk.format("POST", path, {["Content-Type"] = kind}, body)
  end
  file:close()
end
function request()
  at = at % #requests + 1
  return requests[at]
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


def check_wrk() -> None:
    """:raises NoWrk: it is not on PATH."""
    if shutil.which("wrk") is None:
        raise NoWrk("wrk is not on PATH; Debian has it: apt-get install wrk")


def run_wrk(
    url: str, path: str, bodies: Sequence[bytes], kind: str, *, connections: int, seconds: float
) -> Measured:
    """Posts these bodies in turn over so many connections for so long.

    :raises NoWrk: it failed, or reached nobody.
    """
    with tempfile.TemporaryDirectory() as folder:
        script, data = Path(folder) / "bench.lua", Path(folder) / "bodies"
        script.write_text(_SCRIPT)
        with data.open("wb") as file:
            for body in bodies:
                file.write(f"{len(body)}\n".encode() + body)
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "30s"]
        command += ["-s", str(script), url, "--", str(data), kind, path]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in ran.stdout.splitlines() if line.startswith("result ")]
    if ran.returncode or not lines:
        raise NoWrk(f"wrk failed on {url}{path}: {(ran.stderr or ran.stdout).strip()}")
    return msgspec.json.decode(lines[0].removeprefix("result "), type=Measured)
