"""A passage as it is found; of its own so that the prompt needs no database to be tested."""

from typing import NamedTuple


class Passage(NamedTuple):
    """number: of the passage in its document, from 1; score: of this search, higher is nearer."""

    document: str
    number: int
    text: str
    score: float
