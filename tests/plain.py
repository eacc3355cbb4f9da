"""The ``transactions`` description without the features that need profiles: the same row gets the
same answer, whatever came before."""

from importlib import resources

import yaml

from sentinel.dataset import parse_description


def _text() -> str:
    shipped = resources.files("sentinel") / "datasets" / "transactions.yaml"
    content = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    content["features"] = [one for one in content["features"] if "by" not in one]
    del content["behaviour"]
    return yaml.safe_dump(content, sort_keys=False)


PLAIN_YAML = _text()
PLAIN = parse_description(PLAIN_YAML, "plain")
