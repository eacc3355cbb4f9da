"""A repository that Argo CD reads: bare, on this machine, with a checkout to commit from."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
VALUES = "ray_cluster/argocd/values/production.yaml"


class Repository:
    """The product's own chart and applications, as they are in this checkout."""

    def __init__(self, folder: Path) -> None:
        self.bare, self.checkout = folder / "repo.git", folder / "checkout"
        self.url = f"file://{self.bare}"
        folder.mkdir(parents=True, exist_ok=True)
        _run("git", "init", "--quiet", "--bare", "--initial-branch", "main", str(self.bare))
        _run("git", "clone", "--quiet", str(self.bare), str(self.checkout))
        for name, value in {"name": "A person", "email": "person@example.com"}.items():
            self.git("config", f"user.{name}", value)
        for part in ("chart", "argocd"):
            place = Path("ray_cluster") / part
            shutil.copytree(ROOT / place, self.checkout / place)

    def git(self, *arguments: str) -> str:
        return _run("git", "-C", str(self.checkout), *arguments)

    def commit(self, message: str, **files: str | None) -> str:
        """Pushes a commit; ``files`` are texts by path, None to remove one."""
        for path, text in files.items():
            place = self.checkout / path
            if text is None:
                place.unlink()
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.push()

    def commit_values(self, message: str, **values: Any) -> str:
        """Pushes a commit that lays these over the values that Argo CD reads."""
        place = self.checkout / VALUES
        merged = _merged(yaml.safe_load(place.read_text()), values)
        return self.commit(message, **{VALUES: yaml.safe_dump(merged, sort_keys=False)})

    def revert(self) -> str:
        self.git("revert", "--no-edit", "HEAD")
        return self.push()

    def push(self) -> str:
        self.git("push", "--quiet", "origin", "HEAD:main")
        return self.git("rev-parse", "HEAD")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for key, value in above.items():
        inner = both.get(key)
        merge = isinstance(value, dict) and isinstance(inner, dict)
        both[key] = _merged(inner, value) if merge and inner is not None else value
    return both
