"""Trains one run, in its pod, beside the other `fine_tuning_*.py`:

    python -m modules.tuning.fine_tuning_entry RUN_DIRECTORY

    request.json     what is asked for (sitewright/tuning/runs.py)
    progress.jsonl   a line per logged step
    checkpoints/     of transformers, each with a list of its files, written last
    adapter/         the weights, once they are whole
    run.json         the record of the run; once it is there, the run is finished

With TRAIN_PROCESSES above 1 it starts itself so often, one for each GPU, and they train together.
Exit status: 0 finished, 1 it said what is wrong and trying again will not help, 75 a SIGTERM came and a checkpoint is
written, 70 anything else.
"""

import json
import os
import shutil
import signal
import sys
import time
import traceback
from importlib.metadata import version
from pathlib import Path
from typing import Any

from modules.tuning import fine_tuning_processes as processes
from modules.tuning.fine_tuning_data import encoded
from modules.tuning.fine_tuning_files import (
    FILES,
    NO_USE,
    HopelessError,
    alone_in,
    digests,
    joules,
    newest_whole,
    write,
)
from modules.tuning.fine_tuning_judge import evaluate
from modules.tuning.fine_tuning_processes import BROKEN, HOPELESS, STOPPED

FINISHED = 0
MODULE = "modules.tuning.fine_tuning_entry"
STARTS = "starts.json"


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
    """trl's SFTTrainer, which stops with a checkpoint at the next step once `stop` holds a signal."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    recipe = request["recipe"]
    checkpoints = directory / "checkpoints"

    class Reporter(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs is None or "loss" not in logs or processes.rank():
                return
            line = {"step": state.global_step, "steps": state.max_steps, "loss": float(logs["loss"])}
            line |= {"learning_rate": float(logs["learning_rate"]), "time": time.time()}
            with (directory / "progress.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
                file.flush()
                os.fsync(file.fileno())

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            made = checkpoints / f"checkpoint-{state.global_step}"
            processes.wait_for_all()  # each has written files of its own
            if processes.rank() == 0:
                write(made / FILES, digests(made))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if processes.together(bool(stop)) and state.global_step < state.max_steps:
                control.should_save = control.should_training_stop = True

    # With labels of ours: trl would want a chat template with marks for it, and cut off what is too long.
    data = encoded(tokenizer, directory / request["train"], recipe["max_length"])
    steps = recipe["steps"] or -1
    per_step = recipe["batch_size"] * recipe["gradient_accumulation"] * processes.count()
    total = steps if steps > 0 else -(-len(data) // per_step) * recipe["epochs"]
    arguments = SFTConfig(
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
        gradient_checkpointing=recipe.get("gradient_checkpointing", False),
        use_cpu=not torch.cuda.is_available(),
        save_steps=recipe["save_steps"],
        logging_steps=recipe["logging_steps"],
        save_total_limit=2,
        ddp_backend="gloo" if processes.count() > 1 and not torch.cuda.is_available() else None,
        report_to=[],
        disable_tqdm=True,
        max_length=None,
    )
    return SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(data),
        processing_class=tokenizer,
        callbacks=[Reporter()],
    )


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
    """One start of the run, in one or in each of its processes. Returns the exit status."""
    from transformers import set_seed

    set_seed(request["recipe"]["seed"])
    model, tokenizer = load(request)
    trainer = trainer_for(directory, request, model, tokenizer, stop)
    checkpoint = newest_whole(directory / "checkpoints")
    step = int(checkpoint.name.partition("-")[2]) if checkpoint else 0
    print(f"trains from step {step}", flush=True)
    energy = joules()
    starts = _begun(directory, step)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    state, spent = trainer.state, joules()
    stopped = state.global_step < state.max_steps
    end = {"ended": time.time(), "reason": "stopped" if stopped else "finished", "step": state.global_step}
    starts[-1] |= {**end, "joules": None if energy is None or spent is None else spent - energy}
    if processes.rank() == 0:
        write(directory / STARTS, starts)
    if stopped:
        print(f"stops after step {state.global_step}, a checkpoint is written", flush=True)
        return STOPPED
    if processes.rank() == 0:
        write(directory / "run.json", _record(directory, request, trainer, tokenizer, starts))
        print(f"finished after {state.global_step} steps", flush=True)
    return FINISHED


def _begun(directory: Path, step: int) -> list[dict[str, Any]]:
    """All starts of the run, with this one, which counts as cut off until it has ended."""
    kept = directory / STARTS
    earlier = json.loads(kept.read_text()) if kept.exists() else []
    start = {"started": time.time(), "resumed_from_step": step, "ended": None, "reason": "cut off"}
    starts = [*earlier, {**start, "processes": processes.count()}]
    processes.wait_for_all()
    if processes.rank() == 0:
        write(kept, starts)
    return starts


def _record(
    directory: Path, request: dict[str, Any], trainer: Any, tokenizer: Any, starts: list[dict[str, Any]]
) -> dict[str, Any]:
    """Once more of all that went into the weights: what does not fit its record is worth nothing."""
    import torch

    state = trainer.state
    return {
        "request": request,
        "steps": state.global_step,
        "loss": next((found["loss"] for found in reversed(state.log_history) if "loss" in found), None),
        "evaluation": evaluate(directory, request, trainer.model, tokenizer),
        "adapter_files": keep_weights(directory, trainer.model, tokenizer),
        "starts": starts,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "node": os.uname().nodename,
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft", "accelerate")},
    }


def run(directory: Path, stop: list[int]) -> int:
    """The whole of one start, in a directory that nobody else writes into. Returns the exit status."""
    request = json.loads((directory / "request.json").read_text(encoding="utf-8"))
    if processes.is_worker():
        return train(directory, request, stop)
    with alone_in(directory):
        if (directory / "run.json").exists():
            print("is finished already", flush=True)
            return FINISHED
        if processes.count() > 1:
            return processes.launch(MODULE, directory)
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
