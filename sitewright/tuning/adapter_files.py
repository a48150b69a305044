"""Whether vLLM will use a LoRA adapter, from its files alone, before anybody is told that it is there.

vLLM leaves out what it cannot apply, lists the adapter all the same and answers as the base model (vllm issues 34186,
55193, 39278); others it refuses at the first question. Names and shapes say both in advance.
"""

import json
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sitewright.errors import SitewrightError
from sitewright.tuning.recipe import MAX_RANK

CONFIG = "adapter_config.json"  # by which vLLM knows an adapter
WEIGHTS = "adapter_model.safetensors"
HEADER_MAX = 100_000_000  # bytes; the limit of the format itself
MATRIX = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight$")
NAMED = 3  # names of a kind in one message

Shapes = dict[str, tuple[int, ...]]


def faults(adapter: Path, base: Path) -> list[str]:
    """What keeps the adapter in a directory from being served beside the model in another; empty if nothing does.

    Raises: SitewrightError when files of the base model cannot be read.
    """
    try:
        layers = _shapes(sorted(base.glob("*.safetensors")))
    except ValueError as error:
        raise SitewrightError(f"{base}: {error}") from error
    if not layers:
        raise SitewrightError(f"{base}: it has no weights (*.safetensors)")
    try:
        config = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
        matrices = _shapes([adapter / WEIGHTS])
    except FileNotFoundError as error:
        return [f"{Path(error.filename).name} is missing"]
    except ValueError as error:
        return [str(error) if WEIGHTS in str(error) else f"{CONFIG}: {error}"]
    if not isinstance(config, dict):
        return [f"{CONFIG}: an object is wanted"]
    return [*_of_config(config), *_of_matrices(matrices, config, _plain(layers))]


def _shapes(files: Iterable[Path]) -> Shapes:
    """Shapes of all tensors by name, from the headers. Raises: ValueError for a file that is not whole."""
    found: Shapes = {}
    for path in files:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else HEADER_MAX
            if length >= HEADER_MAX or 8 + length > size:
                raise ValueError(f"{path.name} is not whole: {size} bytes")
            try:
                header = json.loads(file.read(length))
            except ValueError as error:
                raise ValueError(f"{path.name}: {error}") from error
        header.pop("__metadata__", None)
        end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        if 8 + length + end != size:
            raise ValueError(f"{path.name} is not whole: {size} bytes, {8 + length + end} wanted")
        found |= {name: tuple(tensor["shape"]) for name, tensor in header.items()}
    return found


def _plain(tensors: Shapes) -> Shapes:
    """Layers of the base by module. A leading `model.` is transformers' own and may be missing in the file.

    The shape is empty where numbers are packed (GPTQ, AWQ, compressed-tensors, bitsandbytes), so that it says nothing.
    """
    found: Shapes = {}
    for name, shape in tensors.items():
        module, _, kind = name.removeprefix("model.").rpartition(".")
        if kind in ("qweight", "weight_packed") or f"{name}.absmax" in tensors:
            found[module] = ()
        elif kind == "weight" and len(shape) == 2:
            found[module] = shape
    return found


def _of_config(config: dict[str, Any]) -> Iterator[str]:
    if not config.get("base_model_name_or_path"):
        yield "base_model_name_or_path is missing: vLLM compares it with the model that it serves"
    if config.get("peft_type", "LORA") != "LORA":
        yield f"peft_type {config['peft_type']}: vLLM serves LORA only"
    if whole := config.get("modules_to_save"):
        yield f"modules_to_save {', '.join(whole)}: vLLM loads no adapter with whole modules in it"
    if config.get("use_dora"):
        yield "use_dora: vLLM loads no DoRA adapters"
    ranks = {"r": config.get("r"), **(config.get("rank_pattern") or {})}
    for name, rank in ranks.items():
        if not isinstance(rank, int) or rank < 1:
            yield f"rank of {name}: {rank!r} is none"
        elif rank > MAX_RANK:
            yield f"rank of {name}: {rank}, models run with --max-lora-rank {MAX_RANK}"


def _of_matrices(matrices: Shapes, config: dict[str, Any], layers: Shapes) -> Iterator[str]:
    found = {name: MATRIX.match(name) for name in matrices}
    if strange := [name for name, match in found.items() if not match]:
        yield f"{_some(strange)}: no LoRA matrices of layers, vLLM does not serve them"
    pairs: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, match in found.items():
        if match:
            pairs.setdefault(match["module"].removeprefix("model."), {})[match["side"]] = matrices[name]
    if not pairs:
        wanted = config.get("target_modules")
        yield f"it changes no layer: target_modules {wanted!r} match none of the base, such as {_some(layers)}"
    if absent := sorted(set(pairs) - set(layers)):
        yield f"the base has no {_some(absent)}; it has {_some(layers)}: vLLM would leave them out without a word"
    if half := sorted(module for module, pair in pairs.items() if len(pair) < 2):
        yield f"{_some(half)}: only one of the matrices A and B"
    for module, pair in sorted(pairs.items()):
        if module in layers and len(pair) == 2:
            yield from _fits(module, pair["A"], pair["B"], layers[module])


def _fits(
    module: str, into: tuple[int, ...], out_of: tuple[int, ...], layer: tuple[int, ...]
) -> Iterator[str]:
    made = (out_of[0], into[-1])
    if layer and made != layer:
        yield f"{module}: it changes {made[0]} x {made[1]} values, the base's layer has {layer[0]} x {layer[1]}"
    elif into[0] != out_of[-1]:
        yield f"{module}: A has rank {into[0]}, B {out_of[-1]}"
    elif into[0] > MAX_RANK:
        yield f"{module}: rank {into[0]}, models run with --max-lora-rank {MAX_RANK}"


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more
