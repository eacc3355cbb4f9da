"""The dataset description: a YAML file that maps one table to the product's terms.

It names the fields with type, unit, range and meaning, says which of them is the time, the label,
the amount, the id and the entity keys, which features to build, and what mistakes cost. Training,
the parser, the API's schema and the bundle are all derived from it, so that they cannot disagree.
Unknown keys are refused with a suggestion. ``docs/dataset-description.md`` is the user's page.
"""

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from sentinel.errors import DescriptionError
from sentinel.feature_specs import (
    KIND,
    ON_UNUSUAL,
    RANKED,
    Behaviour,
    BehaviourFeature,
    ClockFeature,
    FeatureSpec,
    LogFeature,
    Strict,
    Unusual,
    feature_names,
    microseconds_of,
)

ROW_ORDER = "row_order"
"""``time:`` of a table that has no time column but whose rows stand in time order."""

FieldType = Literal["string", "timestamp", "number", "integer", "boolean", "category", "label"]
NUMERIC_TYPES = frozenset({"number", "integer", "boolean", "category"})


class FieldSpec(Strict):
    """One field of a transaction: what a request or a table row must hold under this name."""

    type: FieldType = Field(description="what a value must be")
    meaning: str = Field(min_length=1, description="what it says, in an analyst's words")
    unit: str | None = Field(default=None, description="unit of a number, e.g. EUR")
    minimum: float | None = Field(
        default=None, allow_inf_nan=False, description="smallest accepted number, included"
    )
    maximum: float | None = Field(
        default=None, allow_inf_nan=False, description="largest accepted number, included"
    )
    values: tuple[str, ...] | None = Field(
        default=None, description="of a category: every accepted value, in a fixed order"
    )
    optional: bool = Field(
        default=False, description="may be null or absent; the models then see a missing value"
    )
    aliases: tuple[str, ...] = Field(
        default=(), description="other names of the column in tables (not in requests)"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.type == "category") != bool(self.values):
            raise ValueError("'values' goes with type: category, and a category needs it")
        if self.values and len(set(self.values)) != len(self.values):
            raise ValueError("'values' names a value twice")
        bounded = self.minimum is not None or self.maximum is not None
        if bounded and self.type not in ("number", "integer"):
            raise ValueError("'minimum' and 'maximum' go with type: number or integer")
        low, high = self.minimum, self.maximum
        if low is not None and high is not None and low > high:
            raise ValueError(f"minimum {low} is above maximum {high}")
        if self.optional and self.type not in NUMERIC_TYPES:
            raise ValueError("only a number, integer, boolean or category can be optional")
        return self


class AmountCost(Strict):
    """A cost that grows with the amount: ``fixed + per_amount * amount``, in the amount's unit."""

    fixed: float = Field(ge=0, allow_inf_nan=False)
    per_amount: float = Field(ge=0, allow_inf_nan=False)


class Policy(Strict):
    """What mistakes cost, so that a decision is the cheapest one in expectation.

    The defaults for blocks and misses are scikit-learn's published cost-sensitive example on the
    creditcard data (block a fraud +50+A, miss it -A, block a good one -5, pass a good one +0.02A)
    written as costs against the best decision; the review figures are ours, to be replaced by the
    user's own.
    """

    false_block: AmountCost = AmountCost(fixed=5, per_amount=0.02)
    missed_fraud: AmountCost = AmountCost(fixed=50, per_amount=2)
    review_cost: float = Field(default=4, ge=0, allow_inf_nan=False)
    review_catch_rate: float = Field(default=0.9, ge=0, le=1)
    novelty_review_below: float = Field(
        default=0.002,
        ge=0,
        le=1,
        description="an approval with a novelty p-value below this is reviewed: the share of "
        "legitimate transactions this sends to review",
    )
    fallback: Literal["approve", "review", "block"] = Field(
        default="review", description="the decision while no fraud probability can be had"
    )


class DatasetDescription(Strict):
    """A whole description. Field order is the order of columns and of reported errors."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    summary: str = Field(min_length=1)
    id: str
    time: str = Field(description=f"a timestamp field, or {ROW_ORDER}")
    label: str
    amount: str
    entities: tuple[str, ...] = ()
    fields: dict[str, FieldSpec]
    features: tuple[FeatureSpec, ...] = Field(min_length=1)
    behaviour: Behaviour = Behaviour()
    policy: Policy = Policy()

    @model_validator(mode="after")
    def _roles_fit(self) -> Self:
        for role, name, kind in self._roles():
            spec = self.fields.get(name)
            if spec is None:
                raise ValueError(f"{role}: {_unknown(name, self.fields)}")
            if spec.type != kind:
                raise ValueError(f"{role}: field '{name}' has type {spec.type}, expected {kind}")
        if (self.fields[self.amount].minimum or 0) < 0 or self.fields[self.amount].minimum is None:
            raise ValueError(f"amount: field '{self.amount}' needs minimum: 0 (or more)")
        if self.fields[self.amount].optional:
            raise ValueError(f"amount: field '{self.amount}' cannot be optional")
        roles = {name for _, name, _ in self._roles()}
        for name, spec in self.fields.items():
            if spec.type not in NUMERIC_TYPES and name not in roles:
                raise ValueError(
                    f"fields.{name}: a {spec.type} must be the id, the time, the label or an entity"
                )
        self._check_names()
        self._check_features()
        return self

    def _roles(self) -> Iterator[tuple[str, str, FieldType]]:
        yield "id", self.id, "string"
        if self.time != ROW_ORDER:
            yield "time", self.time, "timestamp"
        yield "label", self.label, "label"
        yield "amount", self.amount, "number"
        for entity in self.entities:
            yield "entities", entity, "string"

    def _check_names(self) -> None:
        seen: dict[str, str] = {}
        for name, spec in self.fields.items():
            # JSON would have to escape such a name, and a request could not be read fast.
            if not name or not name.isprintable() or set(name) & set('"\\'):
                raise ValueError(
                    f"fields: {name!r} is no name; expected printable characters, "
                    "no double quote and no backslash"
                )
            for column in (name, *spec.aliases):
                if column in seen:
                    raise ValueError(f"fields.{name}: '{column}' already names {seen[column]}")
                seen[column] = name

    def _check_features(self) -> None:
        for at, feature in enumerate(self.features):
            if isinstance(feature, ClockFeature):
                if self.time == ROW_ORDER:
                    raise ValueError(f"features.{at}: '{feature.kind}' needs a time field")
                continue
            if isinstance(feature, BehaviourFeature):
                self._check_behaviour(at, feature)
                continue
            spec = self.fields.get(feature.of)
            if spec is None:
                raise ValueError(f"features.{at}: {_unknown(feature.of, self.fields)}")
            if spec.type not in NUMERIC_TYPES:
                raise ValueError(f"features.{at}: field '{feature.of}' is a {spec.type}, no number")
            floor = -1 if spec.minimum is None else spec.minimum
            if isinstance(feature, LogFeature) and floor < 0:
                raise ValueError(f"features.{at}: the logarithm of '{feature.of}' needs minimum: 0")
        names = [name for feature in self.features for name in feature_names(feature)]
        for name, count in Counter(names).items():
            if count > 1:
                raise ValueError(f"features: '{name}' is listed twice")
        self._check_profiles()

    def _check_behaviour(self, at: int, feature: BehaviourFeature) -> None:
        place = f"features.{at}"
        if self.time == ROW_ORDER:
            raise ValueError(f"{place}: '{feature.kind}' needs a time field")
        for key, entity in (("by", feature.by), ("at", feature.at)):
            if entity is not None and entity not in self.entities:
                raise ValueError(f"{place}: {key}: {_no_entity(entity, self.entities)}")
        if feature.at == feature.by:
            raise ValueError(f"{place}: at: '{feature.at}' is the entity itself")

    def _check_profiles(self) -> None:
        """What one entity's profile is asked for must go together."""
        found = [feature for feature in self.features if isinstance(feature, BehaviourFeature)]
        unusual = self.behaviour.unusual
        if unusual is not None and unusual.by not in self.entities:
            raise ValueError(f"behaviour.unusual.by: {_no_entity(unusual.by, self.entities)}")
        if unusual is not None and not found:
            raise ValueError("behaviour.unusual: no feature of this description has a profile")
        for entity in self.entities:
            mine = [feature for feature in found if feature.by == entity]
            ranked = {over for f in mine if f.kind in RANKED for over in f.over}
            if len({microseconds_of(over) for over in ranked}) > 1:
                kinds = ", ".join(sorted(RANKED))
                raise ValueError(
                    f"features: those of {entity} that sort amounts ({kinds}) must share one "
                    f"window; they have {', '.join(sorted(ranked))}"
                )
            if len({f.at for f in mine if f.at is not None}) > 1:
                raise ValueError(f"features: first_at of {entity} can look for one entity alone")
        if unusual is None and any(f.kind in ON_UNUSUAL for f in found):
            raise ValueError("behaviour.unusual: a feature asks for it, and it is not said")

    @cached_property
    def inputs(self) -> dict[str, FieldSpec]:
        """The fields of a request: all but the label, in order."""
        return {n: s for n, s in self.fields.items() if s.type != "label"}

    @cached_property
    def amount_at(self) -> int:
        """The column of ``numbers`` that holds the amount."""
        return list(self.numbers).index(self.amount)

    @cached_property
    def numbers(self) -> dict[str, FieldSpec]:
        """The fields that become columns of numbers, in order."""
        return {n: s for n, s in self.inputs.items() if s.type in NUMERIC_TYPES}


def load_description(name_or_file: str) -> DatasetDescription:
    """The shipped description of that name, or the one in that YAML file.

    :raises DescriptionError: not there, not YAML, or not a valid description; in one line.
    """
    shipped = resources.files("sentinel") / "datasets" / f"{name_or_file}.yaml"
    if name_or_file in shipped_datasets():
        return parse_description(shipped.read_text(), name_or_file)
    path = Path(name_or_file)
    try:
        if not path.is_file():
            known = ", ".join(shipped_datasets())
            raise DescriptionError(
                f"dataset {name_or_file!r} is neither a file nor a shipped description ({known})"
            )
        return parse_description(path.read_text(encoding="utf-8"), name_or_file)
    except UnicodeDecodeError as error:
        raise DescriptionError(f"{name_or_file}: not UTF-8 text") from error
    except OSError as error:
        raise DescriptionError(f"{name_or_file}: cannot be read: {error.strerror}") from error


def shipped_datasets() -> tuple[str, ...]:
    """Names of the descriptions that come with the package."""
    folder = resources.files("sentinel") / "datasets"
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml")))


def parse_description(text: str, origin: str) -> DatasetDescription:
    """The description in this YAML text; ``origin`` names it in errors."""
    try:
        loaded = yaml.load(text, Loader=_UniqueKeys)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        # PyYAML lets through whatever a value such as 2018-13-45 or !!bool x makes it stumble over.
        raise DescriptionError(f"{origin}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise DescriptionError(f"{origin}: expected a mapping, got {type(loaded).__name__}")
    try:
        return DatasetDescription.model_validate(loaded)
    except ValidationError as error:
        raise DescriptionError(f"{origin}: {_explain(error)}") from error


class _UniqueKeys(yaml.SafeLoader):
    """YAML where a key given twice is an error instead of the last one winning."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, count in Counter(keys).items():
            if count > 1:
                raise yaml.composer.ComposerError(
                    None, None, f"key '{key}' is given twice", node.start_mark
                )
        return node


def _unknown(name: str, known: Mapping[str, object] | tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    hint = f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"
    return f"there is no field '{name}'{hint}"


def _no_entity(name: str, entities: tuple[str, ...]) -> str:
    return f"there is no entity '{name}'; known: {', '.join(entities) or 'none'}"


def _explain(error: ValidationError) -> str:
    """The first error as ``path: problem``; an unknown key with the closest known one."""
    # A misspelt key is also a missing one: name what the user wrote, not what is not there.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    # pydantic puts the chosen kind of feature into the path; the user's file has no such key.
    steps = [str(step) for step in first["loc"]]
    path = ".".join(steps[:2] + steps[3:] if steps[:1] == ["features"] else steps)
    if first["type"] == "extra_forbidden":
        known = list(dict.fromkeys(n for m in _models_at(steps) for n in m.model_fields))
        close = difflib.get_close_matches(steps[-1], known, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
        return f"{path}: unknown key; {hint}"
    problem = first["msg"].removeprefix("Value error, ")
    if isinstance(first["input"], str | int | float | None):
        problem += f", got {first['input']!r:.80}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return (f"{path}: {problem}" if path else problem) + more


def _models_at(steps: list[str]) -> tuple[type[BaseModel], ...]:
    """The models whose keys may stand where this path of keys ends."""
    if len(steps) == 1:
        return (DatasetDescription,)
    if steps[0] == "fields":
        return (FieldSpec,)
    if steps[0] == "features":
        return (KIND[steps[2]],) if len(steps) > 3 and steps[2] in KIND else tuple(KIND.values())
    if steps[0] == "behaviour":
        return (Behaviour,) if len(steps) == 2 else (Unusual,)
    return (Policy,) if len(steps) == 2 else (AmountCost,)
