"""A model of one layer and an adapter of it, as files."""

import json
import struct
from pathlib import Path
from typing import Any

from sitewright.tuning.adapter_files import CONFIG, WEIGHTS

HIDDEN, RANK = 64, 8
QUERY = "model.layers.0.self_attn.q_proj"
BASE = {f"{QUERY}.weight": (HIDDEN, HIDDEN), "model.embed_tokens.weight": (256, HIDDEN)}
LORA = {
    f"base_model.model.{QUERY}.lora_A.weight": (RANK, HIDDEN),
    f"base_model.model.{QUERY}.lora_B.weight": (HIDDEN, RANK),
}
SETTINGS = {
    "peft_type": "LORA",
    "r": RANK,
    "base_model_name_or_path": "/shared/models/base",
    "target_modules": ["q_proj"],
}


def safetensors(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A file in the form of huggingface/safetensors, of zeros in float32."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


def write_base(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    safetensors(directory / "model.safetensors", BASE)


def write_adapter(directory: Path, weights: dict[str, tuple[int, ...]] = LORA, **settings: Any) -> None:
    """settings: of adapter_config.json, in place of the usual ones; None leaves one out."""
    directory.mkdir(parents=True)
    wanted = {key: value for key, value in {**SETTINGS, **settings}.items() if value is not None}
    (directory / CONFIG).write_text(json.dumps(wanted))
    safetensors(directory / WEIGHTS, weights)
