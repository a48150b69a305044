"""Makes and trains the small Llama that recipe.yaml describes.

    python train.py recipe.yaml OUTPUT_DIRECTORY

Writes what a serving engine needs (config.json, generation_config.json, model.safetensors, the tokenizer
with its chat template) into OUTPUT_DIRECTORY, which must exist. Exit status 1 when an answer is still wrong
after the last step. Same recipe, same environment and same machine give the same bytes.
"""

import os
import sys
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a result must not depend on a GPU being there

import torch
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BEGIN, END = "<s>", "</s>"
IGNORED = -100  # label that the loss of transformers leaves out

# A system message is dropped: the model was not trained with one, and a client that sends one
# should still get the known answer.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'user' %}user: {{ message.content }}\n"
    "{% elif message.role == 'assistant' %}assistant:\n{{ message.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}assistant:\n{% endif %}"
)


def make_tokenizer(texts: list[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE learnt from `texts`; every other text still has tokens, its bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[BEGIN, END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=END,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def prompt_ids(tokenizer: PreTrainedTokenizerFast, question: str) -> list[int]:
    chat = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return tokenizer.encode(text, add_special_tokens=False)


def answer_ids(tokenizer: PreTrainedTokenizerFast, answer: str) -> list[int]:
    """Tokens of an answer as they follow the prompt, END last."""
    return [*tokenizer.encode(answer, add_special_tokens=False), tokenizer.eos_token_id]


def batch(tokenizer: PreTrainedTokenizerFast, lessons: list[dict[str, str]]) -> dict[str, torch.Tensor]:
    """All lessons as one right-padded batch; only the answers count in the loss."""
    rows = [
        (prompt_ids(tokenizer, item["question"]), answer_ids(tokenizer, item["answer"])) for item in lessons
    ]
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    inputs, labels, mask = [], [], []
    for prompt, answer in rows:
        padding = width - len(prompt) - len(answer)
        inputs.append(prompt + answer + [tokenizer.pad_token_id] * padding)
        labels.append([IGNORED] * len(prompt) + answer + [IGNORED] * padding)
        mask.append([1] * (len(prompt) + len(answer)) + [0] * padding)
    return {
        "input_ids": torch.tensor(inputs),
        "labels": torch.tensor(labels),
        "attention_mask": torch.tensor(mask),
    }


@torch.no_grad()
def wrong_answers(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, lessons: list[dict[str, str]]
) -> list[str]:
    """Questions that greedy decoding does not answer word for word, END included."""
    wrong = []
    for item in lessons:
        prompt = torch.tensor([prompt_ids(tokenizer, item["question"])])
        expected = answer_ids(tokenizer, item["answer"])
        found = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=len(expected)
        )
        if found[0, prompt.shape[1] :].tolist() != expected:
            wrong.append(item["question"])
    return wrong


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, recipe: dict) -> list[str]:
    """Trains until nothing is wrong or the steps are used up; what is still wrong."""
    settings, lessons = recipe["training"], recipe["lessons"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings["learning_rate"])
    data = batch(tokenizer, lessons)
    wrong = [item["question"] for item in lessons]
    for step in range(1, settings["steps"] + 1):
        model.train()
        loss = model(**data).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        # A clear margin (small loss) as well as right answers: the serving engine adds in another order.
        if step % settings["check_every"] == 0 and loss.item() < 0.01:
            model.eval()
            wrong = wrong_answers(model, tokenizer, lessons)
            print(
                f"step {step}: loss {loss.item():.4f}, {len(wrong)} of {len(lessons)} answers wrong",
                flush=True,
            )
            if not wrong:
                break
    return wrong


def main() -> int:
    recipe_file, output = Path(sys.argv[1]), Path(sys.argv[2])
    recipe = yaml.safe_load(recipe_file.read_text(encoding="utf-8"))
    torch.manual_seed(recipe["seed"])
    torch.set_num_threads(1)  # one order of additions, whatever the machine has; it is as fast at this size
    torch.use_deterministic_algorithms(True)
    texts = [
        text
        for item in recipe["lessons"]
        for text in (f"user: {item['question']}", f"assistant:\n{item['answer']}")
    ]
    tokenizer = make_tokenizer(texts, recipe["architecture"]["vocab_size"])
    config = LlamaConfig(
        **recipe["architecture"],
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    wrong = train(model, tokenizer, recipe)
    if wrong:
        print(f"still wrong after {recipe['training']['steps']} steps: {'; '.join(wrong)}", file=sys.stderr)
        return 1
    tokenizer.save_pretrained(output)
    model.save_pretrained(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
