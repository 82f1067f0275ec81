"""One question and its answer, the unit every workload produces."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Exchange:
    """A prompt with its answer; with thinking enabled, the thought and the answer after it.

    `after_thought` is the answer to give once the thought is written ("" means the same answer).
    `exact` says that the answer is a function of the prompt, so a test may compare text.
    """

    prompt: str
    answer: str
    thought: str = ""
    after_thought: str = ""
    exact: bool = True

    @property
    def thinking_answer(self) -> str:
        return self.after_thought or self.answer
