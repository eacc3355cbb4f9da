"""The model card's pages on time: week by week, what is saved, and what sooner labels are worth."""

from collections.abc import Mapping, Sequence
from typing import Any

from training.drift import SHIFTED

_WAYS = {
    "together": "both lanes together",
    "xgboost": "XGBoost alone",
    "isolation_forest": "Isolation Forest alone",
    "block_at_half": "blocking from a probability of 0.5 on",
    "approve_all": "approving everything",
}


def weeks_section(quality: Mapping[str, Any], unit: str) -> str:
    """Quality, calibration, cost and drift by week of the backtest."""
    weeks: Sequence[Mapping[str, Any]] = quality["weeks"]
    return "\n".join(
        [
            "## Week by week",
            "",
            "| from | rows | frauds | average precision | forest's | Brier skill | calibration "
            "error | mean probability | fraud rate | alarms |",
            "|---|---|---|---|---|---|---|---|---|---|",
            *(_quality_row(week) for week in weeks),
            "",
            f"What decisions cost above perfect ones, in {unit} for 1,000 rows:",
            "",
            "| from | " + " | ".join(_WAYS.values()) + " |",
            "|---|" + "---|" * len(_WAYS),
            *(_cost_row(week) for week in weeks),
            "",
            saved_line(weeks, unit),
            "",
            "Drift is told by the population stability index: of the probability beside the first "
            "of these weeks, and of the feature that changed most since the rows trained on. Up to "
            f"0.1 is said to be nothing, above {SHIFTED:g} a shift.",
            "",
            "| from | probability | most changed feature | its index |",
            "|---|---|---|---|",
            *(
                f"| {week['from']} | {week['score_psi']:.3f} | {week['most_shifted']} "
                f"| {week['feature_psi']:.3f} |"
                for week in weeks
            ),
        ]
    )


def saved_line(weeks: Sequence[Mapping[str, Any]], unit: str) -> str:
    """What the decisions saved over all weeks, beside approving everything."""
    rows = sum(week["rows"] for week in weeks)
    means = {
        way: sum(week["rows"] * week["regret_per_1000"][way] for week in weeks) / rows
        for way in ("together", "block_at_half", "approve_all")
    }
    all_of_it, half, ours = means["approve_all"], means["block_at_half"], means["together"]
    return (
        f"Of the {all_of_it:,.0f} {unit} for 1,000 rows that frauds would cost if all were "
        f"approved, the decisions save {all_of_it - ours:,.0f}; blocking from 0.5 on would save "
        f"{all_of_it - half:,.0f}."
    )


def delay_section(quality: Mapping[str, Any]) -> str | None:
    """What the label delay costs; ``None`` where it was not measured."""
    delay = quality["label_delay"]
    if delay is None:
        return None
    return (
        "## The label delay\n\n"
        f"Labels count {delay['delay']} after their transaction. Were they known after "
        f"{delay['sooner']}, average precision on the same rows would be "
        f"{delay['average_precision_sooner']:.3f} instead of {delay['average_precision']:.3f}, by "
        "the same model fitted to such features. Where labels come sooner, say so in "
        "`behaviour.label_delay`, and send them to `POST /labels` at once."
    )


def _quality_row(week: Mapping[str, Any]) -> str:
    cells = (
        week["from"],
        f"{week['rows']:,}",
        f"{week['frauds']:,}",
        _number(week["average_precision"], 3),
        _number(week["anomaly_average_precision"], 3),
        _number(week["brier_skill"], 3),
        _number(week["calibration_error"], 4),
        f"{week['mean_probability']:.3%}",
        f"{week['fraud_rate']:.3%}",
        f"{week['alarms']:,}",
    )
    return "| " + " | ".join(cells) + " |"


def _cost_row(week: Mapping[str, Any]) -> str:
    costs = (f"{week['regret_per_1000'][way]:,.0f}" for way in _WAYS)
    return f"| {week['from']} | " + " | ".join(costs) + " |"


def _number(value: float | None, digits: int) -> str:
    return "too few frauds" if value is None else f"{value:.{digits}f}"
