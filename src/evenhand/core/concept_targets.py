"""Targets that differ from concept to concept, such as the shares that labour statistics count.

A table says, of every concept, the share of each class of one attribute, with its source and year.
It is a YAML or a CSV file; both hold the same (`load_targets`).
"""

import csv
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FiniteFloat,
    TypeAdapter,
    WrapValidator,
    model_validator,
)

from evenhand.core.errors import UserError, unknown
from evenhand.core.resources import find_yaml
from evenhand.core.rows import csv_rows
from evenhand.core.schema import Strict, check, read_yaml

ROUNDING = 0.01  # by how much published shares of a concept may miss the sum of 1
OTHERS = "*"  # stands in a CSV for the concepts that have no row of their own
NEEDED = ("concept", "class", "share", "source", "year")  # columns of a CSV
OPTIONAL = ("attribute", "licence")


class ConceptTargets(Strict):
    """The shares asked for of one attribute, by concept.

    Attributes:
        table: name of the file, for reports.
        attribute: whose classes these are; "" where the table leaves it to whoever names it.
        source: who counted, in words that let a reader find the numbers.
        year: when, such as 2022 or "2019-2023".
        licence: of the numbers.
        default: shares of the concepts that the table lacks; None: these are refused, by name.
        concepts: `{concept: {class: share}}`; each sums to 1 within `ROUNDING`, and classes left
            out get 0.
    """

    table: str = ""
    attribute: str = ""
    source: Annotated[str, Field(min_length=1)]
    year: Annotated[str, Field(min_length=1), BeforeValidator(str)]
    licence: str = ""
    default: dict[str, float] | None = None
    concepts: Annotated[dict[str, dict[str, float]], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> "ConceptTargets":
        problems = ["a concept is empty"] * any(not name.strip() for name in self.concepts)
        rows = {f"concept {name!r}": shares for name, shares in self.concepts.items()}
        rows |= {} if self.default is None else {"default": self.default}
        for name, shares in rows.items():
            total = sum(shares.values())
            said = ", ".join(f"{cls} {share:g}" for cls, share in shares.items()) or "none"
            if any(not 0 <= share <= 1 for share in shares.values()):
                problems.append(
                    f"{name}: a share lies outside 0 to 1 ({said}); divide percentages by 100"
                )
            elif abs(total - 1) > ROUNDING + 1e-9:
                problems.append(f"{name}: shares sum to {total:g} ({said}); they shall sum to 1")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def __str__(self) -> str:
        return f"table {self.table} ({self.source}, {self.year})"

    def of(self, concept: str) -> dict[str, float]:
        """The shares asked for of a concept, which sum to 1 exactly.

        Raises:
            UserError: the table lacks it and has no default.
        """
        self.check_concepts([concept])
        shares = self.concepts.get(concept, self.default or {})
        return {cls: share / sum(shares.values()) for cls, share in shares.items()}

    def lacking(self, concepts: Iterable[str]) -> list[str]:
        """Those of the concepts that have no row of their own."""
        return [name for name in dict.fromkeys(concepts) if name not in self.concepts]

    def check_concepts(self, concepts: Iterable[str]) -> None:
        """Raises UserError where a concept has no shares: no row, and no default."""
        lacking = self.lacking(concepts)
        if lacking and self.default is None:
            named = ", ".join(map(repr, lacking[:5])) + (", ..." if len(lacking) > 5 else "")
            raise UserError(
                f"target table {self.table!r} has no shares for {len(lacking)} of the concepts: "
                f"{named}; add them, or shares for all others (`default:`; in a CSV the concept "
                f"{OTHERS})"
            )

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raises UserError where a row names a class that the attribute has not."""
        rows = {**self.concepts, "default": self.default or {}}
        for concept, shares in rows.items():
            for cls in shares:
                if cls not in classes:
                    where = f"target table {self.table!r}, {self.attribute} of {concept!r}"
                    raise unknown("class", cls, classes, where=where)


def load_targets(name: str) -> ConceptTargets:
    """A table by name (`us-labour-2022`), or of a YAML or CSV file.

    A CSV has a row for each concept and class, in the columns concept, class, share, source and
    year, and optionally attribute and licence. Its concept `*` stands for all that have no row.

    Raises:
        UserError: there is none, or every problem of the file.
    """
    if name.lower().endswith(".csv"):
        path = pathlib.Path(name)
        values = _of_csv(path)
    else:
        path = find_yaml("eval/targets", name)
        values = read_yaml(path)
    return check(ConceptTargets, {**values, "table": path.name}, where=str(path))


def _of_csv(path: pathlib.Path) -> dict[str, Any]:
    """What a CSV says, as the YAML would."""
    try:
        rows = list(csv_rows(path.read_text(encoding="utf-8-sig")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a table of targets ({error})") from error
    if not rows:
        raise UserError(f"{path}: has no row; it needs the columns {', '.join(NEEDED)}")
    for column in rows[0]:
        if column not in (*NEEDED, *OPTIONAL):
            raise unknown("column", column, [*NEEDED, *OPTIONAL], where=str(path))
    concepts: dict[str, dict[str, float]] = {}
    problems = []
    for number, row in enumerate(rows, start=1):
        if missing := [column for column in NEEDED if not row.get(column, "").strip()]:
            problems.append(f"row {number} has no {' and no '.join(missing)}")
            continue
        shares = concepts.setdefault(row["concept"], {})
        if row["class"] in shares:
            problems.append(f"row {number}: {row['concept']!r}, {row['class']!r} stands twice")
        try:
            shares[row["class"]] = float(row["share"])
        except ValueError:
            problems.append(f"row {number}: share {row['share']!r} is no number from 0 to 1")
    if problems:
        raise UserError("\n".join(f"{path}: {problem}" for problem in problems))
    said = {
        column: list(dict.fromkeys(row.get(column, "") for row in rows))
        for column in ("source", "year", *OPTIONAL)
    }
    if len(said["attribute"]) > 1:
        raise UserError(
            f"{path}: is of several attributes ({', '.join(map(repr, said['attribute']))}); write "
            "a file for each"
        )
    return {
        **{column: "; ".join(texts) for column, texts in said.items()},
        "default": concepts.pop(OTHERS, None),
        "concepts": concepts,
    }


_BY_CLASS = TypeAdapter(dict[str, FiniteFloat])


def _named(value: Any, _: Any) -> Any:
    """Shares by class, or a table: its name, its file, or all that it holds."""
    return load_targets(value) if isinstance(value, str) else _written(value, _)


def _written(value: Any, _: Any) -> Any:
    """Shares by class, or all that a table holds; no file is read."""
    if isinstance(value, ConceptTargets):
        return value
    if isinstance(value, Mapping) and isinstance(value.get("concepts"), Mapping):
        return check(ConceptTargets, value, where="target table")
    return _BY_CLASS.validate_python(value)


def _spelled_out(value: Any) -> Any:
    """The name of a table alone stands for the table, under the attribute that it is of."""
    if not isinstance(value, str):
        return value
    table = load_targets(value)
    if not table.attribute:
        raise UserError(f"{value}: names no attribute; write ATTRIBUTE: {value}")
    return {table.attribute: table}


def _of_its_attribute(
    shares: dict[str, ConceptTargets | dict[str, float]],
) -> dict[str, ConceptTargets | dict[str, float]]:
    """Every table says the attribute under which it stands."""
    for name, table in shares.items():
        if isinstance(table, ConceptTargets) and table.attribute not in ("", name):
            raise UserError(f"{table.table}: is of {table.attribute!r}, not of {name!r}")
    return {
        name: x.model_copy(update={"attribute": name}) if isinstance(x, ConceptTargets) else x
        for name, x in shares.items()
    }


# What is asked for of each attribute: `{attribute: shares by class, or a table}`.
_Either = ConceptTargets | dict[str, FiniteFloat]
# As files hold it that evenhand writes (run.json, adapter.json): tables are written out.
WrittenShares = Annotated[
    dict[str, Annotated[_Either, WrapValidator(_written)]], AfterValidator(_of_its_attribute)
]
# As users say it: a text is the name of a table, which is read where the value is validated.
Shares = Annotated[
    dict[str, Annotated[_Either, WrapValidator(_named)]],
    BeforeValidator(_spelled_out),
    AfterValidator(_of_its_attribute),
]
