"""How near an answer is to the wanted one, and how sure the mean over many questions is."""

import random
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

METRICS = {
    "exact": "exact match",
    "contains": "contains the answer",
    "f1": "token F1",
}
RESAMPLES = 2000
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normal(text: str) -> str:
    """Lower case, without punctuation, articles and runs of blanks. Source: SQuAD 1.1, evaluate-v1.1.py."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def scores(answer: str, wanted: str) -> dict[str, float]:
    """By metric, 0 to 1. contains: the wanted words stand in the answer, in their order and together."""
    said, right = normal(answer).split(), normal(wanted).split()
    together = f" {' '.join(right)} " in f" {' '.join(said)} " if right else said == right
    return {"exact": float(said == right), "contains": float(together), "f1": _f1(said, right)}


def _f1(said: Sequence[str], right: Sequence[str]) -> float:
    common = sum((Counter(said) & Counter(right)).values())
    if not common:
        return float(not said and not right)
    precision, recall = common / len(said), common / len(right)
    return 2 * precision * recall / (precision + recall)


def intervals(columns: Mapping[str, Sequence[float]], seed: int) -> dict[str, tuple[float, float, float]]:
    """Mean and 95 % confidence interval of each column, by percentile bootstrap over the questions.

    All columns are drawn alike, so a column of differences is a paired comparison. The same seed gives the same
    numbers.
    """
    (count,) = {len(column) for column in columns.values()}
    draw = random.Random(seed)
    means: dict[str, list[float]] = {name: [] for name in columns}
    for _ in range(RESAMPLES):
        chosen = draw.choices(range(count), k=count)
        for name, column in columns.items():
            means[name].append(sum(column[place] for place in chosen) / count)
    return {
        name: (sum(column) / count, percentile(means[name], 2.5), percentile(means[name], 97.5))
        for name, column in columns.items()
    }


def percentile(values: Sequence[float], percent: float) -> float:
    """Between the two nearest values, linearly."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
