"""The model card: what a bundle is, how it was made, and how good it honestly is.

A page of Markdown with four plots, drawn from the backtest (rows later than all the judged models
were trained on). Same bundle, same bytes: no clock, no random ids.
"""

import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import rc_context, rcdefaults
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sentinel.decision import BLOCK, regret
from sentinel.features import feature_set
from sentinel.manifest import Manifest
from training.card_weeks import delay_section, weeks_section
from training.judge import Judged
from training.quality import calibration_bins, precision_recall

_FRAUD, _NOVELTY, _PLAIN = "#c0392b", "#2e6f9e", "#666666"

_FIGURES = {
    "average_precision": "Average precision",
    "auroc": "AUROC",
    "recall_at_1pct_fpr": "Recall at 1% false positives",
    "brier_skill": "Brier skill",
    "expected_calibration_error": "Expected calibration error",
    "regret_per_1000": "Regret per 1,000 transactions",
}


def render_card(manifest: Manifest, judged: Judged | None) -> dict[str, bytes]:
    """The files of the card by their path in the bundle: ``model-card.md`` and its plots."""
    # The defaults, not the reader's own matplotlib settings: same bundle, same bytes.
    with rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rcdefaults()
        return _render(manifest, judged)


def _render(manifest: Manifest, judged: Judged | None) -> dict[str, bytes]:
    plots = {} if judged is None else _plots(judged, _unit(manifest))
    text = "\n\n".join(
        part
        for part in (
            _what(manifest),
            _quality(manifest),
            *_over_time(manifest),
            *(f"![{alt}](plots/{name}.png)" for name, (alt, _) in plots.items()),
            _policy(manifest),
            _how(manifest),
            _limits(manifest),
        )
    )
    files = {f"plots/{name}.png": _png(figure) for name, (_, figure) in plots.items()}
    return {"model-card.md": (text + "\n").encode(), **files}


def _unit(manifest: Manifest) -> str:
    description = manifest.description
    return description.fields[description.amount].unit or "the amount's unit"


def _what(manifest: Manifest) -> str:
    data, description = manifest.data, manifest.description
    span = f", {data.first} to {data.last}" if data.first else ", in row order"
    return (
        f"# Model card: {description.name}\n\n{description.summary}\n\n"
        f"Trained on {data.rows:,} rows with {data.frauds:,} frauds "
        f"({data.frauds / data.rows:.3%}){span}.\n\n"
        f"{len(manifest.features)} features: {', '.join(manifest.features)}."
    )


def _quality(manifest: Manifest) -> str:
    quality = manifest.quality
    if not quality["measured"]:
        return f"## Quality\n\nNot measured: {quality['reason']}."
    together, lanes, before = quality["together"], quality["lanes"], quality["trained_on"]
    until = f" (before {before['until']})" if before["until"] else ""
    rows = [
        f"| {title} | {_interval(together[name])} | {_lane(lanes['xgboost'], name)} "
        f"| {_lane(lanes['isolation_forest'], name)} |"
        for name, title in _FIGURES.items()
    ]
    decisions = [
        f"| {name} | {count['rows']:,} | {count['frauds']:,} |"
        for name, count in quality["decisions"].items()
    ]
    return "\n".join(
        [
            "## Quality",
            "",
            f"A backtest: the same pipeline, trained on the first {before['rows']:,} rows{until}, "
            f"judged on the {together['rows']:,} rows after them, {together['frauds']:,} of them "
            "frauds. In brackets the 95% bootstrap interval: with so many frauds, differences "
            "inside it mean nothing. The models in this bundle were then trained on all rows.",
            "",
            "| | both lanes together | XGBoost alone | Isolation Forest alone |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Regret is the cost above that of perfect decisions, in {_unit(manifest)}. The "
            "novelty lane does not change the probability, only approvals into reviews, so "
            "together differs from XGBoost alone in regret only.",
            "",
            "| decision | rows | frauds among them |",
            "|---|---|---|",
            *decisions,
        ]
    )


def _over_time(manifest: Manifest) -> list[str]:
    """The pages on time, where they were measured."""
    if not manifest.quality["measured"]:
        return []
    delay = delay_section(manifest.quality)
    return [weeks_section(manifest.quality, _unit(manifest)), *([delay] if delay else [])]


def _interval(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.4g} [{figure['low']:.4g}, {figure['high']:.4g}]"


def _lane(lane: Mapping[str, Any], name: str) -> str:
    figure = lane.get(name)
    if figure is None:
        return "–"
    return _interval(figure) if isinstance(figure, Mapping) else f"{figure:.4g}"


def _policy(manifest: Manifest) -> str:
    policy, unit = manifest.policy, _unit(manifest)
    return (
        "## Decisions\n\n"
        f"The cheapest in expectation, with amounts in {unit}: blocking a good transaction costs "
        f"{policy.false_block.fixed:g} + {policy.false_block.per_amount:g} x amount, missing a "
        f"fraud {policy.missed_fraud.fixed:g} + {policy.missed_fraud.per_amount:g} x amount, a "
        f"review {policy.review_cost:g} and catches {policy.review_catch_rate:.0%} of the frauds "
        f"in it. An approval whose novelty p-value is below {policy.novelty_review_below:g} is "
        f"reviewed. Without a fraud probability: {policy.fallback}." + _novelty_warning(manifest)
    )


def _novelty_warning(manifest: Manifest) -> str:
    """The smallest p-value a window of n rows can give is 1 / (n + 1)."""
    rows, below = manifest.novelty.rows, manifest.policy.novelty_review_below
    if 1 / (rows + 1) < below:
        return ""
    return (
        f" **The window has only {rows:,} rows, too few for a p-value below {below:g}: "
        "the novelty lane raises nothing.**"
    )


def _how(manifest: Manifest) -> str:
    lines = [
        f"{number}. **{step['step']}**: "
        + ", ".join(f"{key} {_short(value)}" for key, value in step.items() if key != "step")
        for number, step in enumerate(manifest.steps, 1)
    ]
    versions = ", ".join(f"{name} {number}" for name, number in sorted(manifest.versions.items()))
    return "\n".join(
        [
            "## How it was made",
            "",
            "Rows are ranges in time order; nothing was reweighted or resampled.",
            "",
            *lines,
            "",
            f"Seed {manifest.seed}. Data SHA-256 `{manifest.data.sha256}`. With {versions}.",
        ]
    )


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {inner}" for key, inner in value.items()) + ")"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _limits(manifest: Manifest) -> str:
    past = (
        "- A customer or a terminal that was never seen is judged by what the transaction itself "
        "says; training copies rows as of such ones.\n"
        "- Labels count after the delay alone. A way of fraud nobody has labelled yet is found by "
        "the novelty lane, if at all."
        if feature_set(manifest.description).plan is not None
        else f"- All {len(manifest.features)} features come from the transaction itself: this "
        "bundle knows nothing of what a customer or a terminal did before.\n"
        "- Labels were taken as known; the delay with which they arrive was not simulated."
    )
    return (
        "## Limits\n\n"
        "- Quality holds for rows like those of the backtest; fraud changes, so watch it.\n"
        "- The calibration has two numbers, learnt from the frauds of one slice or of folds.\n"
        "- A single week holds few frauds: differences between weeks are mostly noise.\n" + past
    )


def _plots(judged: Judged, unit: str) -> dict[str, tuple[str, Figure]]:
    return {
        "precision-recall": ("Precision over recall of each lane", _plot_ranks(judged)),
        "calibration": ("Fraud rate over predicted probability", _plot_calibration(judged)),
        "regret": ("Regret over the blocking threshold", _plot_regret(judged, unit)),
        "scores": ("Histogram of probabilities", _plot_scores(judged)),
    }


def _axes(title: str, x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.4, 4.2), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return figure, axes


def _plot_ranks(judged: Judged) -> Figure:
    figure, axes = _axes("Precision over recall, later rows", "recall", "precision")
    for score, name, colour in (
        (judged.probability, "XGBoost, and both lanes together", _FRAUD),
        (judged.anomaly, "Isolation Forest", _NOVELTY),
    ):
        recall, precision, _ = precision_recall(judged.labels, score)
        axes.step(recall, precision, where="pre", color=colour, label=name)
    rate = judged.labels.mean()
    axes.axhline(rate, color=_PLAIN, linestyle=":", label=f"fraud rate {rate:.3%}")
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(frameon=False)
    return figure


def _plot_calibration(judged: Judged) -> Figure:
    figure, axes = _axes(
        "Calibration, 15 bins of equal mass", "mean predicted probability", "fraud rate"
    )
    mean, rate, _ = calibration_bins(judged.labels, judged.probability)
    floor = max(min(1 / len(judged.labels), mean[mean > 0].min(initial=1.0)), 1e-8)
    axes.plot([floor, 1], [floor, 1], color=_PLAIN, linestyle=":", label="perfect")
    shown = rate > 0
    axes.plot(mean[shown], rate[shown], "o-", color=_FRAUD, label="bins with frauds")
    none = int((~shown).sum())
    if none:
        axes.plot(
            mean[~shown], np.full(none, floor), "o", mfc="none", color=_FRAUD,
            label=f"{none} bins without any",
        )  # fmt: skip
    axes.set(xscale="log", yscale="log")
    axes.legend(frameon=False)
    return figure


def _plot_regret(judged: Judged, unit: str) -> Figure:
    figure, axes = _axes(
        "Regret if one threshold decided", "block at a probability from", f"{unit} per 1,000 rows"
    )
    thresholds = np.unique(np.quantile(judged.probability, 1 - np.geomspace(1e-5, 0.2, 120)))
    curve = []
    for threshold in thresholds:
        decision = np.where(judged.probability >= threshold, BLOCK, 0).astype(np.int8)
        cost = regret(judged.policy, judged.amounts, decision, judged.labels)
        curve.append(1000 * cost.mean())
    axes.plot(thresholds, curve, color=_NOVELTY, label="one threshold for all amounts")
    ours = 1000 * judged.regret().mean()
    axes.axhline(ours, color=_FRAUD, label=f"this policy: {ours:.4g}")
    axes.set(xscale="log", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def _plot_scores(judged: Judged) -> Figure:
    figure, axes = _axes("Predicted probabilities", "fraud probability", "share of the rows")
    lowest = max(float(judged.probability.min()), 1e-8)
    bins = np.geomspace(lowest, 1, 50)
    for label, name, colour in ((0, "legitimate", _NOVELTY), (1, "fraud", _FRAUD)):
        values = np.clip(judged.probability[judged.labels == label], lowest, 1)
        weights = np.full(len(values), 1 / len(values))
        axes.hist(values, bins=bins, weights=weights, color=colour, alpha=0.6, label=name)
    axes.set(xscale="log")
    axes.legend(frameon=False)
    return figure


def _png(figure: Figure) -> bytes:
    sink = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(sink, format="png", metadata={"Software": None})
    return sink.getvalue()
