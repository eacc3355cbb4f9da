"""What ``sentinel serve`` shows once it answers."""

import json
import os
import shlex
import sys

from rich.console import Console
from rich.table import Table

from sentinel.bundle import Bundle
from sentinel.features import feature_set
from sentinel.scoring import FRAUD_LANE, NOVELTY_LANE
from serve_app.openapi import example
from serve_app.serve_config import ServeConfig


def show_start_page(config: ServeConfig, bundle: Bundle, logs: str, profiles: str) -> None:
    """Bundle, lanes, where it answers and a request to try, on standard error."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)
    url = (
        f"http://[{reached}]:{config.port}" if ":" in reached else f"http://{reached}:{config.port}"
    )
    manifest = bundle.manifest
    console.print(
        f"ready at {url} (API: {url}/docs), model version {bundle.digest[:12]}; Ctrl-C stops it",
        style="bold" if sys.stderr.isatty() else "",
        markup=False,
    )
    page = Table.grid(padding=(0, 2))
    page.add_row("bundle", f"{bundle.uri} (dataset {manifest.description.name})")
    trees = {lane: f"{manifest.models[lane].trees} trees" for lane in (FRAUD_LANE, NOVELTY_LANE)}
    page.add_row("lanes", ", ".join(f"{lane}: {size}" for lane, size in trees.items()))
    if feature_set(manifest.description).plan is not None:
        page.add_row("profiles", _profiles(config, bundle, profiles))
    page.add_row("keys", config.args.api_keys or "none: whoever reaches it may ask")
    page.add_row("logs", logs)
    page.add_row("reload", f"kill -HUP {os.getpid()}: config and bundle are read again")
    console.print(page, markup=False)
    body = shlex.quote(json.dumps(example(manifest.description), ensure_ascii=False))
    key = " -H 'authorization: Bearer KEY'" if config.args.api_keys else ""
    console.print(
        f"try: curl {url}/predict{key} -H 'content-type: application/json' -d {body}", markup=False
    )


def _profiles(config: ServeConfig, bundle: Bundle, source: str) -> str:
    """Where profiles are, and what they know."""
    settings = config.args.profiles
    if settings.on_redis:
        from sentinel.redis_link import without_password

        return f"on {without_password(settings.uri or '')}"
    entry = bundle.manifest.profiles
    origins = {
        "cold": "cold: nobody has a past yet",
        "bundle": f"those of the bundle, up to {entry.newest if entry else 'nothing'}",
        "history": f"made from {settings.history}",
        "snapshot": f"as saved in {settings.snapshot}",
    }
    kept = f"; saved to {settings.snapshot} at the end" if settings.snapshot else ""
    return f"in memory; {origins.get(source, source)}{kept}"
