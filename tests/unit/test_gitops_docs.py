"""docs/gitops.md against what it describes."""

import re
from pathlib import Path

import yaml

PAGE = Path("docs/gitops.md").read_text()
APPLICATIONS = yaml.safe_load(Path("ray_cluster/argocd/apps/values.yaml").read_text())[
    "applications"
]


def test_the_table_of_applications_is_that_of_the_chart() -> None:
    found = re.findall(r"^\| (-?\d) \| `([\w-]+)` \| `([\w-]+)` \|.*\| ([\w. ]+) \|$", PAGE, re.M)
    told = {name: (int(wave), project, version) for wave, name, project, version in found}
    assert told == {
        name: (app["wave"], app["project"], app.get("version", "this repository"))
        for name, app in APPLICATIONS.items()
    }


def test_every_secret_that_production_refers_to_is_listed() -> None:
    # They are made by hand, so the page must name them.
    redis = APPLICATIONS["redis"]["values"]["existingSecret"]
    grafana = APPLICATIONS["prometheus"]["values"]["grafana"]["admin"]["existingSecret"]
    production = yaml.safe_load(Path("ray_cluster/chart/values-production.yaml").read_text())
    named = {
        redis,
        grafana,
        production["api"]["keysSecret"],
        production["rayTokenSecret"],
        production["redis"]["passwordSecret"]["name"],
        *production["environmentSecrets"],
    }
    assert {name for name in named if f"| `{name}` |" not in PAGE} == set()
