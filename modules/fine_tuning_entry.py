"""Trains one run. It is mounted into the pod and knows only its directory: `python fine_tuning_entry.py RUN_DIRECTORY`.

    request.json     what is asked for (sitewright/tuning/runs.py)
    progress.jsonl   a line per logged step
    checkpoints/     of transformers, each with a list of its files, written last
    adapter/         the weights, once they are whole
    run.json         the record of the run; once it is there, the run is finished

Exit status: 0 finished, 1 it said what is wrong and trying again will not help, 75 a SIGTERM came and a checkpoint is
written, 70 anything else.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

FINISHED, HOPELESS, BROKEN, STOPPED = 0, 1, 70, 75
FILES = "files.json"  # of a checkpoint: name → sha256
IGNORED = -100  # label that the loss of transformers leaves out
SAMPLES = 3  # held-out prompts whose answer is kept, to compare with what is served
SAMPLE_TOKENS = 32
# Nothing that another node could do better: the shared file system is full, read-only or lacks a file.
NO_USE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT, errno.EACCES)
ENERGY = (  # joules per unit; Cray EX nodes report the first (HPE, "pm_counters"), Intel's RAPL is the second
    ("/sys/cray/pm_counters/energy", 1.0),
    ("/sys/class/powercap/intel-rapl:0/energy_uj", 1e-6),
)


class HopelessError(Exception):
    """What is wrong, for the researcher. Another try would end alike."""


def digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def digests(directory: Path) -> dict[str, str]:
    """Of the files in a directory, the list of them left out."""
    found = sorted(path for path in directory.rglob("*") if path.is_file() and path.name != FILES)
    return {str(path.relative_to(directory)): digest(path) for path in found}


def write(path: Path, content: Any) -> None:
    """JSON that is there as a whole or not at all, also after a loss of power."""
    scratch = path.with_name(f".{path.name}.new")
    with scratch.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def damage(checkpoint: Path) -> str:
    """Why a checkpoint cannot be continued from; empty if it can."""
    try:
        files = json.loads((checkpoint / FILES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "it was not written to its end"
    except (OSError, ValueError) as error:
        return f"{FILES}: {error}"
    for name, expected in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if digest(path) != expected:
            return f"{name} is not as it was written"
    return "" if "trainer_state.json" in files else "trainer_state.json is missing"


def newest_whole(checkpoints: Path) -> Path | None:
    """The checkpoint to continue from; the others are named in the log, with what is wrong with them."""
    found = sorted(checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))
    for checkpoint in reversed(found):
        reason = damage(checkpoint)
        if not reason:
            return checkpoint
        print(f"{checkpoint.name} is left out: {reason}", flush=True)
    return None


def joules() -> float | None:
    for path, unit in ENERGY:
        with contextlib.suppress(OSError, ValueError, IndexError):
            return float(Path(path).read_text().split()[0]) * unit
    return None


@contextlib.contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Raises: HopelessError where another pod writes into the directory."""
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise HopelessError(f"{directory}: another pod trains this run ({error})") from error
        yield


def rows(path: Path) -> list[list[dict[str, str]]]:
    return [
        json.loads(line)["messages"]
        for line in path.read_text(encoding="utf-8-sig").splitlines()
        if line.strip()
    ]


def tokens(tokenizer: Any, messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
    """Token ids of a conversation, and the labels: only what the assistant says is learnt."""
    done = ""
    ids: list[int] = []
    labels: list[int] = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        asked = tokenizer.apply_chat_template(messages[:index], tokenize=False, add_generation_prompt=True)
        answered = tokenizer.apply_chat_template(messages[: index + 1], tokenize=False)
        if not (asked.startswith(done) and answered.startswith(asked)):
            raise HopelessError("the model's chat template rewrites earlier turns; use rows of one turn")
        for text, learnt in ((asked[len(done) :], False), (answered[len(asked) :], True)):
            piece = tokenizer.encode(text, add_special_tokens=False)
            ids += piece
            labels += piece if learnt else [IGNORED] * len(piece)
        done = answered
    return ids, labels


def encoded(tokenizer: Any, path: Path, max_length: int) -> list[dict[str, list[int]]]:
    """All rows as tokens. Raises: HopelessError for a row that is longer than `max_length` tokens."""
    result = []
    for number, messages in enumerate(rows(path), 1):
        ids, labels = tokens(tokenizer, messages)
        if len(ids) > max_length:
            raise HopelessError(
                f"{path.name}: row {number} is {len(ids)} tokens long, max_length is {max_length}"
            )
        result.append({"input_ids": ids, "labels": labels})
    return result


def collate(tokenizer: Any, batch: list[dict[str, list[int]]]) -> dict[str, Any]:
    """One batch, padded on the right."""
    import torch

    width = max(len(row["input_ids"]) for row in batch)
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id

    def padded(key: str, filler: int) -> Any:
        return torch.tensor([row[key] + [filler] * (width - len(row[key])) for row in batch])

    mask = [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in batch]
    return {
        "input_ids": padded("input_ids", padding),
        "labels": padded("labels", IGNORED),
        "attention_mask": torch.tensor(mask),
    }


def load(request: dict[str, Any]) -> tuple[Any, Any]:
    """Model, with an adapter if the recipe wants one, and tokenizer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    recipe = request["recipe"]
    tokenizer = AutoTokenizer.from_pretrained(request["base_model"])
    if not tokenizer.chat_template:
        raise HopelessError(f"{request['base_model']} has no chat template")
    dtype = torch.bfloat16 if recipe["precision"] == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(request["base_model"], dtype=dtype)
    if recipe["method"] == "lora":
        lora = recipe["lora"]
        config = LoraConfig(
            r=lora["rank"],
            lora_alpha=lora["alpha"],
            lora_dropout=lora["dropout"],
            target_modules=lora["target_modules"],
            task_type="CAUSAL_LM",
        )
        try:
            model = get_peft_model(model, config)
        except ValueError as error:  # no layer is called as `target_modules` says
            raise HopelessError(str(error)) from error
    return model, tokenizer


def trainer_for(directory: Path, request: dict[str, Any], model: Any, tokenizer: Any, stop: list[int]) -> Any:
    """transformers' Trainer, which stops with a checkpoint at the next step once `stop` holds a signal."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    recipe = request["recipe"]
    checkpoints = directory / "checkpoints"

    class Reporter(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs is None or "loss" not in logs:
                return
            line = {"step": state.global_step, "steps": state.max_steps, "loss": float(logs["loss"])}
            line |= {"learning_rate": float(logs["learning_rate"]), "time": time.time()}
            with (directory / "progress.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            made = checkpoints / f"checkpoint-{state.global_step}"
            write(made / FILES, digests(made))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if stop and state.global_step < state.max_steps:
                control.should_save = control.should_training_stop = True

    data = encoded(tokenizer, directory / request["train"], recipe["max_length"])
    steps = recipe["steps"] or -1
    per_step = recipe["batch_size"] * recipe["gradient_accumulation"]
    total = steps if steps > 0 else -(-len(data) // per_step) * recipe["epochs"]
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=steps,
        num_train_epochs=recipe["epochs"] or 1,
        learning_rate=recipe["learning_rate"],
        per_device_train_batch_size=recipe["batch_size"],
        gradient_accumulation_steps=recipe["gradient_accumulation"],
        warmup_steps=int(total * recipe["warmup_ratio"]),
        weight_decay=recipe["weight_decay"],
        seed=recipe["seed"],
        bf16=recipe["precision"] == "bf16",
        use_cpu=not torch.cuda.is_available(),
        save_steps=recipe["save_steps"],
        logging_steps=recipe["logging_steps"],
        save_total_limit=2,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    return Trainer(
        model=model,
        args=arguments,
        train_dataset=data,
        data_collator=lambda batch: collate(tokenizer, batch),
        callbacks=[Reporter()],
    )


def loss_on(model: Any, tokenizer: Any, data: list[dict[str, list[int]]]) -> float:
    """Mean loss of an answer's token."""
    import torch

    total, count = 0.0, 0
    for row in data:
        batch = {key: value.to(model.device) for key, value in collate(tokenizer, [row]).items()}
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
    tuned = loss_on(model, tokenizer, data)
    samples = answers(model, tokenizer, rows(held_out))
    if request["recipe"]["method"] == "lora":
        with model.disable_adapter():
            base = loss_on(model, tokenizer, data)
    else:
        before = AutoModelForCausalLM.from_pretrained(request["base_model"], dtype=model.dtype)
        base = loss_on(before.to(model.device).eval(), tokenizer, data)
    return {"base_loss": base, "tuned_loss": tuned, "rows": len(data), "samples": samples}


def keep_weights(directory: Path, model: Any, tokenizer: Any) -> dict[str, str]:
    """adapter/ of the run, whole as soon as it is there. Returns the digests of its files."""
    scratch, target = directory / ".adapter", directory / "adapter"
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    model.save_pretrained(scratch)
    if not (scratch / "adapter_config.json").exists():
        tokenizer.save_pretrained(scratch)
    scratch.rename(target)
    return digests(target)


def train(directory: Path, request: dict[str, Any], stop: list[int]) -> int:
    """One start of the run. Returns the exit status."""
    import torch
    from transformers import set_seed

    kept = directory / "starts.json"
    starts = json.loads(kept.read_text()) if kept.exists() else []
    set_seed(request["recipe"]["seed"])
    model, tokenizer = load(request)
    trainer = trainer_for(directory, request, model, tokenizer, stop)
    checkpoint = newest_whole(directory / "checkpoints")
    step = int(checkpoint.name.partition("-")[2]) if checkpoint else 0
    print(f"trains from step {step}", flush=True)
    began, energy = time.time(), joules()
    start = {"started": began, "resumed_from_step": step, "ended": None, "reason": "cut off"}
    write(kept, [*starts, start])
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    state, spent = trainer.state, joules()
    stopped = state.global_step < state.max_steps
    start |= {"ended": time.time(), "reason": "stopped" if stopped else "finished", "step": state.global_step}
    start["joules"] = None if energy is None or spent is None else spent - energy
    write(kept, [*starts, start])
    if stopped:
        print(f"stops after step {state.global_step}, a checkpoint is written", flush=True)
        return STOPPED
    # Once more of all that went into the weights: what does not fit its record is worth nothing.
    evaluation = evaluate(directory, request, trainer.model, tokenizer)
    record = {
        "request": request,
        "steps": state.global_step,
        "loss": next((found["loss"] for found in reversed(state.log_history) if "loss" in found), None),
        "evaluation": evaluation,
        "adapter_files": keep_weights(directory, trainer.model, tokenizer),
        "starts": [*starts, start],
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "node": os.uname().nodename,
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "accelerate")},
    }
    write(directory / "run.json", record)
    print(f"finished after {state.global_step} steps", flush=True)
    return FINISHED


def run(directory: Path, stop: list[int]) -> int:
    """The whole of one start, in a directory that nobody else writes into. Returns the exit status."""
    with alone_in(directory):
        if (directory / "run.json").exists():
            print("is finished already", flush=True)
            return FINISHED
        request = json.loads((directory / "request.json").read_text(encoding="utf-8"))
        return train(directory, request, stop)


def main(directory: Path) -> int:
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
    try:
        return run(directory, stop)
    except HopelessError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return HOPELESS
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_USE:
            print(f"error: {error.filename or directory}: {error.strerror}", file=sys.stderr, flush=True)
            return HOPELESS
        traceback.print_exc()
        return BROKEN


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
