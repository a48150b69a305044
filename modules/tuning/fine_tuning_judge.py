"""How a tuned model does on rows it has not learnt, beside the model it came from. Runs in the pod too."""

from pathlib import Path
from typing import Any

from modules.tuning.fine_tuning_data import IGNORED, encoded, rows

SAMPLES = 3  # held-out prompts whose answer is kept, to compare with what is served
SAMPLE_TOKENS = 32


def loss_on(model: Any, data: list[dict[str, list[int]]]) -> float:
    """Mean loss of an answer's token."""
    import torch

    total, count = 0.0, 0
    for row in data:
        batch = {key: torch.tensor([values], device=model.device) for key, values in row.items()}
        learnt = sum(label != IGNORED for label in row["labels"][1:])
        with torch.no_grad():
            total += float(model(**batch).loss) * learnt
        count += learnt
    return total / count


def answers(model: Any, tokenizer: Any, prompts: list[list[dict[str, str]]]) -> list[dict[str, Any]]:
    """What the model says to the first prompts, greedily."""
    import torch

    result = []
    for messages in prompts[:SAMPLES]:
        asked = [message for message in messages if message["role"] != "assistant"][:1]
        text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)], device=model.device)
        made = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=SAMPLE_TOKENS
        )
        said = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
        result.append({"messages": asked, "max_tokens": SAMPLE_TOKENS, "answer": said})
    return result


def evaluate(directory: Path, request: dict[str, Any], model: Any, tokenizer: Any) -> dict[str, Any] | None:
    """How model and tuned model do on the held-out rows; None where there are none."""
    from transformers import AutoModelForCausalLM

    if not request["evaluation"]:
        return None
    held_out = directory / request["evaluation"]
    data = encoded(tokenizer, held_out, request["recipe"]["max_length"])
    model.eval()
    tuned = loss_on(model, data)
    samples = answers(model, tokenizer, rows(held_out))
    if request["recipe"]["method"] == "lora":
        with model.disable_adapter():
            base = loss_on(model, data)
    else:
        before = AutoModelForCausalLM.from_pretrained(request["base_model"], dtype=model.dtype)
        base = loss_on(before.to(model.device).eval(), data)
    return {"base_loss": base, "tuned_loss": tuned, "rows": len(data), "samples": samples}
