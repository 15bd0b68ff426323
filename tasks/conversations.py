"""The lm-eval task that asks whole conversations, also under the plain `lm_eval` command.

lm-eval's own tasks ask one user turn. This one puts the turns before it that the item carries, and
opens the model's turn where the item says how the response begins.
"""

from collections.abc import Callable
from typing import Any

from lm_eval.api.task import ConfigurableTask  # noqa: TID253 - only the tasks' YAML names this file

from mipo_eval.errors import ConfigError, ModelError
from mipo_eval.records import Item
from mipo_eval.tasks.prompt import as_dicts, joined_system, turns_to


class ConversationTask(ConfigurableTask):  # type: ignore[misc]
    """Asks items with their conversation; documents are those of `hooks.documents`."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def fewshot_context(
        self,
        doc: dict[str, Any],
        num_fewshot: int,
        system_instruction: str | None = None,
        apply_chat_template: bool = False,
        chat_template: Callable[..., Any] | None = None,
        **_how: Any,
    ) -> Any:
        """Return the prompt of a document: its conversation in the model's form (lm-eval's name).

        Raises:
            ConfigError: worked examples are asked for; these items are no questions.
            ModelError: the model cannot continue the response that the item begins.
        """
        if num_fewshot:
            raise ConfigError(f"{self.config.task} takes no worked examples: no --num_fewshot")
        item = Item.model_validate_json(doc["item"])
        query = self.doc_to_text(doc)
        told = joined_system(system_instruction or "", doc.get("system", ""))
        messages = as_dicts(turns_to(query, item.messages, told))
        if item.prefill:
            messages.append({"role": "assistant", "content": item.prefill})
        if not (apply_chat_template and chat_template):
            return "\n\n".join(message["content"] for message in messages)
        prompt = chat_template(messages, add_generation_prompt=not item.prefill)
        if item.prefill and not isinstance(prompt, str):  # a conversation for a server
            asked = getattr(chat_template, "__self__", None)
            if not getattr(asked, "continues", False):
                raise ModelError(
                    f"item {item.item_id} begins the response (prefill), and this kind of model "
                    "cannot continue it: use hf:PATH, vllm:PATH or a vLLM server, or leave the "
                    "item out"
                )
        return prompt
