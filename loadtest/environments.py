"""An environment of its own for each contender: made by its hash-pinned lock, kept between runs.

Their dependencies exclude each other's and this project's (MLServer needs an older FastAPI than Ray
does). Beside what its lock names, an environment holds links to this project's own two packages
that contenders import.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import loadtest
import sentinel
from sentinel.errors import SentinelError

PLACE = Path("build") / "contenders"
INSTALL_SECONDS = 900.0
_STAMP = ".installed"


class NotMeasurable(SentinelError):
    """A contender cannot be measured here; says why, in words that may be published."""


def environment_for(name: str, place: Path = PLACE) -> Path:
    """The Python of this contender's environment, which is made where it is missing or old.

    :raises NotMeasurable: there is no uv, or it cannot install what the lock names.
    """
    lock = lock_of(name)
    home = (place / name).absolute()
    python = home / "bin" / "python"
    wanted = mark_of(lock, sys.version)
    if not is_current(home, wanted):
        _install(lock, home, python)
        (home / _STAMP).write_text(wanted)
    return python


def lock_of(name: str) -> bytes:
    """The committed lock of this contender."""
    return (resources.files("loadtest.rivals") / f"{name}.lock").read_bytes()


def mark_of(lock: bytes, python: str) -> str:
    """What an environment is marked with: another lock or another Python needs a new one."""
    return hashlib.sha256(lock + python.encode()).hexdigest()


def is_current(home: Path, wanted: str) -> bool:
    """Whether an environment stands there that was installed whole from what is wanted."""
    stamp = home / _STAMP
    return stamp.exists() and stamp.read_text() == wanted


def link_packages(site: Path, packages: Sequence[Path]) -> None:
    """Makes these packages importable there, as they are here and without their dependencies."""
    for package in packages:
        link = site / package.name
        link.unlink(missing_ok=True)
        link.symlink_to(package, target_is_directory=True)


def _install(lock: bytes, home: Path, python: Path) -> None:
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        raise NotMeasurable("uv, which installs it, is not there (make setup installs it)")
    home.parent.mkdir(parents=True, exist_ok=True)
    pinned, log = home.with_suffix(".lock"), home.with_suffix(".log")
    pinned.write_bytes(lock)
    install = [uv, "pip", "install", "--python", str(python), "--require-hashes", "-r", str(pinned)]
    with log.open("wb") as output:
        for command in ([uv, "venv", "--clear", "--python", sys.executable, str(home)], install):
            # Its words name the machine and the package index: they stay in the log.
            if not _ran(command, output.fileno()):
                raise NotMeasurable(
                    f"its environment was not installed; uv's words are in {PLACE / log.name}"
                )
    site = next((home / "lib").glob("python*")) / "site-packages"
    link_packages(site, [Path(each.__path__[0]).resolve() for each in (sentinel, loadtest)])


def _ran(command: Sequence[str], output: int) -> bool:
    try:
        ran = subprocess.run(
            command, stdout=output, stderr=output, timeout=INSTALL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return ran.returncode == 0
