"""Vectors of texts, from the weights that the package wordllama carries; nothing is fetched.

Runs in images/environments/retrieval. A vector is the mean of the vectors of a text's tokens, at unit length: the same
text has the same vector, bit for bit, whatever else is asked for beside it.
"""

import importlib.metadata
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open
from tokenizers import Tokenizer

PACKAGE = "wordllama"
WEIGHTS, TOKENIZER = "weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json"
DIMENSIONS = (64, 128, 256)  # it was trained so that the first of them are a smaller model (Matryoshka)
BATCH = 256  # texts that are tokenized at once


class Embedder:
    """Texts to vectors. Loads in 0.1 s; 32 MB."""

    def __init__(self) -> None:
        found = importlib.util.find_spec(PACKAGE)
        assert found and found.origin, f"{PACKAGE} is not in this environment"
        # Its own loader would download the tokenizer, and importing it imports a client for that.
        home = Path(found.origin).parent
        self._tokenizer = Tokenizer.from_file(str(home / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        with safe_open(home / WEIGHTS, framework="numpy") as file:
            self._table = file.get_tensor("embedding.weight").astype(np.float32)

    @property
    def version(self) -> str:
        """What two vectors must have in common to be compared."""
        return f"{PACKAGE}=={importlib.metadata.version(PACKAGE)} {Path(WEIGHTS).stem}"

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token numbers of each text, as `embed` takes them."""
        found: list[list[int]] = []
        for begin in range(0, len(texts), BATCH):
            encoded = self._tokenizer.encode_batch(
                list(texts[begin : begin + BATCH]), add_special_tokens=False
            )
            found += [one.ids for one in encoded]
        return found

    def embed(self, tokens: Sequence[Sequence[int]], dimensions: int = DIMENSIONS[-1]) -> np.ndarray:
        """Unit vectors, float32 of shape (texts, dimensions); zero for a text without a token."""
        vectors = np.zeros((len(tokens), dimensions), dtype=np.float32)
        for place, ids in enumerate(tokens):
            if not len(ids):
                continue
            mean = self._table[np.asarray(ids)].mean(axis=0)[:dimensions]
            length = np.sqrt(np.sum(mean * mean))  # not by BLAS, whose sums depend on the processor
            vectors[place] = mean / length if length else mean
        return vectors
