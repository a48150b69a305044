"""Adapters that vLLM would list and not use, or refuse at the first question, are told from their files."""

import pytest
from click.testing import CliRunner

from sitewright.cli.adapters import adapters
from sitewright.errors import SitewrightError
from sitewright.tuning.adapter_files import CONFIG, WEIGHTS, faults
from tests.unit.adapter import BASE, HIDDEN, LORA, QUERY, safetensors, write_adapter, write_base


@pytest.fixture
def base(tmp_path):
    directory = tmp_path / "base"
    write_base(directory)
    return directory


@pytest.fixture
def made(tmp_path):
    def make(weights=LORA, **settings):
        write_adapter(tmp_path / "adapter", weights, **settings)
        return tmp_path / "adapter"

    return make


def renamed(old, new):
    return {name.replace(old, new): shape for name, shape in LORA.items()}


def test_an_adapter_of_this_base_has_no_fault(base, made):
    assert faults(made(), base) == []


def test_a_base_that_was_saved_without_its_prefix_is_the_same(base, made):
    safetensors(
        base / "model.safetensors", {name.removeprefix("model."): shape for name, shape in BASE.items()}
    )
    assert faults(made(), base) == []


PACKED = {f"{QUERY}.weight": (HIDDEN * HIDDEN // 2, 1), f"{QUERY}.weight.absmax": (64,)}


@pytest.mark.parametrize("tensors", [{f"{QUERY}.qweight": (HIDDEN // 8, HIDDEN)}, PACKED])
def test_packed_numbers_of_a_base_have_no_shape_to_compare(base, made, tensors):
    safetensors(base / "model.safetensors", tensors)
    assert faults(made(), base) == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"base_model_name_or_path": None}, "base_model_name_or_path is missing"),
        ({"base_model_name_or_path": ""}, "base_model_name_or_path is missing"),
        ({"modules_to_save": ["embed_tokens", "lm_head"]}, "modules_to_save embed_tokens, lm_head"),
        ({"use_dora": True}, "use_dora"),
        ({"peft_type": "IA3"}, "peft_type IA3"),
        ({"r": 1024}, "rank of r: 1024, models run with --max-lora-rank 64"),
        ({"rank_pattern": {"q_proj": 128}}, "rank of q_proj: 128"),
        ({"r": None}, "rank of r: None is none"),
        ({"r": "8"}, "rank of r: '8' is none"),
    ],
)
def test_settings_that_vllm_does_not_load_are_named(base, made, settings, says):
    assert [fault for fault in faults(made(**settings), base) if says in fault]


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        (
            renamed("model.layers", "language_model.model.layers"),
            "the base has no language_model.model.layers.0",
        ),
        (
            renamed("q_proj", "c_attn"),
            "the base has no layers.0.self_attn.c_attn; it has embed_tokens, layers.0",
        ),
        ({}, "it changes no layer: target_modules ['q_proj'] match none of the base, such as embed_tokens"),
        (
            {**LORA, "base_model.model.lm_head.weight": (256, HIDDEN)},
            "lm_head.weight: no LoRA matrices of layers",
        ),
        (dict(list(LORA.items())[:1]), "only one of the matrices A and B"),
        ({name: tuple(2 * length for length in shape) for name, shape in LORA.items()}, "128 x 128 values"),
        (
            {
                name: tuple(length if length == HIDDEN else 128 for length in shape)
                for name, shape in LORA.items()
            },
            "rank 128, models run with --max-lora-rank 64",
        ),
    ],
)
def test_weights_that_vllm_would_leave_out_are_named(base, made, weights, says):
    found = faults(made(weights), base)
    assert [fault for fault in found if says in fault], found


@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_a_file_that_was_cut_off_is_named(base, made, kept):
    adapter = made()
    path = adapter / WEIGHTS
    path.write_bytes(path.read_bytes()[:kept])
    [fault] = faults(adapter, base)
    assert f"{WEIGHTS} is not whole: {path.stat().st_size} bytes" in fault


@pytest.mark.parametrize(("text", "says"), [("{", "adapter_config.json: "), ("[]", "an object is wanted")])
def test_settings_that_cannot_be_read_are_named(base, made, text, says):
    adapter = made()
    (adapter / CONFIG).write_text(text)
    assert says in faults(adapter, base)[0]


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_a_file_that_is_missing_is_named(base, made, name):
    adapter = made()
    (adapter / name).unlink()
    assert faults(adapter, base) == [f"{name} is missing"]


def test_a_base_without_weights_is_no_fault_of_the_adapter(tmp_path, made):
    with pytest.raises(SitewrightError, match="has no weights"):
        faults(made(), tmp_path)


def test_the_command_says_it_and_fails(base, made):
    adapter = made(renamed("q_proj", "c_attn"))
    told = CliRunner().invoke(adapters, ["check", str(adapter), str(base)])
    assert told.exit_code == 1
    assert "c_attn" in str(told.exception)


def test_the_command_says_that_all_fits(base, made):
    told = CliRunner().invoke(adapters, ["check", str(made()), str(base)])
    assert (told.exit_code, told.output.split(": ")[1]) == (0, "every matrix fits a layer of base\n")
