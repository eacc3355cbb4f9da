"""The ``transactions`` description with features that need no profiles: the same row gets the same
answer, whatever came before."""

from importlib import resources

import yaml

from sentinel.dataset import parse_description

STATELESS: tuple[str | dict[str, str], ...] = (
    "amount", {"kind": "log", "of": "amount"}, "hour", "weekday", "night", "weekend",
)  # fmt: skip


def _text() -> str:
    shipped = resources.files("sentinel") / "datasets" / "transactions.yaml"
    content = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    content["features"] = list(STATELESS)
    del content["behaviour"]
    return yaml.safe_dump(content, sort_keys=False)


PLAIN_YAML = _text()
PLAIN = parse_description(PLAIN_YAML, "plain")
