"""Values of served models that vLLM itself sets limits to."""

# Upper bounds of the buckets in which vLLM 0.32 counts how long requests wait for their first token (v1/metrics/
# loggers.py). How many waited no longer than something between two of them nobody could tell.
FIRST_WORD_BOUNDS = (0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)


def first_word_bound(seconds: float) -> float:
    if seconds not in FIRST_WORD_BOUNDS:
        known = ", ".join(f"{bound:g}" for bound in FIRST_WORD_BOUNDS)
        raise ValueError(f"vLLM counts requests up to {known} s; {seconds:g} is none of them")
    return seconds
