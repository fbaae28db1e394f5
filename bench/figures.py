"""Figures: medians, how they stand to their bounds, and how all that is shown."""

import operator
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

#: What ratios are given in.
TIMES = "×"

Results = Mapping[str, Sequence["Figure"]]

_HOLDS = {"≤": operator.le, "<": operator.lt, "≥": operator.ge}


@dataclass(frozen=True, slots=True)
class Bound:
    """What a figure is meant to keep to.

    Attributes:
        limit: In the figure's unit.
        sign: How it is to stand to the limit.
        of: Which of its values.
    """

    limit: float
    sign: Literal["≤", "<", "≥"] = "≤"
    of: Literal["value", "p99"] = "value"

    def holds(self, value: float) -> bool:
        return bool(_HOLDS[self.sign](value, self.limit))

    def __str__(self) -> str:
        return f"{'' if self.of == 'value' else 'p99 '}{self.sign} {_number(self.limit)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing that was measured.

    Attributes:
        name: What, in words.
        value: The median of all samples, or what was measured once over a long time.
        unit: Of the value, p90 and p99.
        samples: How many there were.
        p90: What nine of ten samples did not exceed; None where there are too few to tell.
        p99: Likewise.
        bound: What it is meant to keep to, if that has been promised.
    """

    name: str
    value: float
    unit: str
    samples: int = 1
    p90: float | None = None
    p99: float | None = None
    bound: Bound | None = None

    @property
    def held(self) -> bool | None:
        """Whether it keeps to its bound; None where it has none, or too few samples to tell."""
        value = self.p99 if self.bound and self.bound.of == "p99" else self.value
        return None if self.bound is None or value is None else self.bound.holds(value)

    @property
    def verdict(self) -> str:
        """How it stands to its bound, in words; empty where there is none."""
        if self.bound is None:
            return ""
        return f"{self.bound}: {({True: 'held', False: 'MISSED', None: 'too few'})[self.held]}"

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "samples": self.samples,
            "p90": self.p90,
            "p99": self.p99,
            "bound": self.bound and asdict(self.bound),
            "held": self.held,
        }


def of_samples(
    name: str, samples: Sequence[float], unit: str, *, bound: Bound | None = None
) -> Figure:
    """The median of samples that are in `unit`."""
    many = len(samples) >= 20
    cuts = statistics.quantiles(samples, n=100, method="inclusive") if many else []
    return Figure(
        name=name,
        value=statistics.median(samples),
        unit=unit,
        samples=len(samples),
        p90=cuts[89] if many else None,
        p99=cuts[98] if many else None,
        bound=bound,
    )


def of_seconds(name: str, seconds: Sequence[float], *, bound: Bound | None = None) -> Figure:
    """The median of short times, in ms."""
    return of_samples(name, [1000 * one for one in seconds], "ms", bound=bound)


def ratio(
    name: str, above: Sequence[float], below: Sequence[float], *, bound: Bound | None = None
) -> Figure:
    """The median of one thing over that of another."""
    value = statistics.median(above) / statistics.median(below)
    return Figure(name=name, value=value, unit=TIMES, samples=len(above), bound=bound)


def ratio_of_pairs(
    name: str, above: Sequence[float], below: Sequence[float], *, bound: Bound | None = None
) -> Figure:
    """The median of the ratios of neighbours, for what is slow enough to meet different weather."""
    pairs = [one / other for one, other in zip(above, below, strict=True)]
    return of_samples(name, pairs, TIMES, bound=bound)


def as_text(results: Results) -> str:
    """A table for a terminal."""
    lines = []
    names = [figure.name for figures in results.values() for figure in figures]
    width = max(map(len, names), default=0)
    for bench, figures in results.items():
        lines += ["", f"{bench:<{width + 2}} {'median':>9} {'':<9} {'p90':>7} {'p99':>7}"]
        for figure in figures:
            value, p90, p99 = _cells(figure)
            row = f"  {figure.name:<{width}} {value:>9} {figure.unit:<9} {p90:>7} {p99:>7}"
            lines.append(f"{row}  {figure.verdict}".rstrip())
    return "\n".join(lines)


def as_markdown(results: Results) -> str:
    """A table for a document."""
    rows = [
        "| bench | figure | median | p90 | p99 | bound |",
        "| --- | --- | --: | --: | --: | --- |",
    ]
    for bench, figures in results.items():
        shown: Iterator[str] = iter((bench,))
        for figure in figures:
            value, p90, p99 = _cells(figure)
            median = f"{value} {figure.unit}".replace(f" {TIMES}", TIMES)
            cells = (next(shown, ""), figure.name, median, p90, p99, figure.verdict)
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _cells(figure: Figure) -> tuple[str, str, str]:
    p90, p99 = ("" if one is None else _number(one) for one in (figure.p90, figure.p99))
    return _number(figure.value), p90, p99


def _number(value: float) -> str:
    if value == 0:
        return "0"
    # Three digits that matter.
    decimals = next(
        (count for count, least in enumerate((99.95, 9.995, 0.9995)) if value >= least), 3
    )
    return f"{value:,.{decimals}f}"
