"""The plain page at ``/``: what answers here, and where to read on."""

from html import escape

from serve_app.served import ServedBundle

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>SentinelStream</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto;
         padding: 0 1rem; color: #1b1f24; background: #fff }}
  code {{ font-family: ui-monospace, monospace; overflow-wrap: anywhere }}
  dt {{ color: #57606a }} dd {{ margin: 0 0 .75rem }}
  li {{ margin: .25rem 0 }}
</style>
<h1>SentinelStream</h1>
<p>Scores card transactions for fraud as they happen.</p>
<dl>
  <dt>Dataset</dt><dd>{dataset}: {summary}</dd>
  <dt>Model version</dt><dd><code>{digest}</code></dd>
  <dt>Trained on</dt><dd>{rows:,} transactions, {frauds:,} of them frauds</dd>
</dl>
<ul>
  <li><a href="docs">API</a>: every route and field, with a form to try them</li>
  <li><a href="model">Model</a>: the manifest of the bundle that answers</li>
  <li><a href="ready">Ready</a>: whether both models hold it</li>
  <li><a href="metrics">Metrics</a> of this node, for Prometheus</li>
</ul>
</html>
"""


def home_page(served: ServedBundle) -> str:
    """The page for this bundle, as HTML."""
    manifest = served.manifest
    return _PAGE.format(
        dataset=escape(manifest.description.name),
        summary=escape(manifest.description.summary),
        digest=served.digest,
        rows=manifest.data.rows,
        frauds=manifest.data.frauds,
    )
