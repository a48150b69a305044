"""What OpenAI's `/v1/embeddings` asks for and gets. Source: OpenAI's API reference, "Create embeddings"."""

import base64
from typing import Any, Protocol

from modules.retrieval.retrieval_prompt import Refused

MOST_INPUTS = 2048  # of one request, as at OpenAI
MOST_TOKENS = 8192  # of one input
FORMATS = ("float", "base64")
KNOWN = frozenset(["model", "input", "encoding_format", "dimensions", "user"])


class Embeds(Protocol):
    def tokens(self, texts: list[str]) -> list[list[int]]: ...

    def embed(self, tokens: list[list[int]], dimensions: int) -> Any: ...


def answer(body: dict[str, Any], embedder: Embeds, sizes: tuple[int, ...]) -> dict[str, Any]:
    """The vectors of the texts, in their order. sizes: dimensions there are, the last is the default.

    Raises: Refused with the parameter that is wrong, what was found and what would be right.
    """
    if unknown := sorted(set(body) - KNOWN):
        raise Refused(f"unknown parameter {', '.join(unknown)}; there is {', '.join(sorted(KNOWN))}")
    texts = _texts(body.get("input"))
    form = body.get("encoding_format", FORMATS[0])
    if form not in FORMATS:
        raise Refused(f"encoding_format: found {form!r}, float or base64 is wanted")
    dimensions = body.get("dimensions", sizes[-1])
    if dimensions not in sizes or isinstance(dimensions, bool):
        raise Refused(f"dimensions: found {dimensions!r}, one of {', '.join(map(str, sizes))} is wanted")
    tokens = embedder.tokens(texts)
    for place, ids in enumerate(tokens):
        if len(ids) > MOST_TOKENS:
            raise Refused(f"input[{place}] has {len(ids):,} tokens; at most {MOST_TOKENS:,} are taken")
    vectors = embedder.embed(tokens, dimensions)
    data = [
        {"object": "embedding", "index": place, "embedding": _written(vector, form)}
        for place, vector in enumerate(vectors)
    ]
    count = sum(map(len, tokens))
    usage = {"prompt_tokens": count, "total_tokens": count}
    return {"object": "list", "model": body["model"], "data": data, "usage": usage}


def _texts(given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise Refused("input: a text, or a list of texts that is not empty, is wanted")
    if len(texts) > MOST_INPUTS:
        raise Refused(f"input: {len(texts):,} texts; at most {MOST_INPUTS:,} are taken at once")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise Refused(f"input[{place}]: texts are taken, no token numbers; found {type(text).__name__}")
        if not text.strip():
            raise Refused(f"input[{place}] is empty")
    return texts


def _written(vector: Any, form: str) -> list[float] | str:
    """base64 of little-endian float32, as OpenAI's own clients ask for."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode() if form == "base64" else vector.tolist()
