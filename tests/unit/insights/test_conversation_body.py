"""A conversation that is refused says which of its fields is at fault, and by which limit."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from memcube_common.contracts.learning import CONVERSATION_MAX_BYTES, Conversation

LONGEST = {"role": "user", "content": "x" * 65_536}


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([LONGEST] * 17, f"must be at most {CONVERSATION_MAX_BYTES} bytes together, got {17 * 65_536}"),
        ([{"role": "user", "content": " \n\u200b"}], "at least one message must say something"),
    ],
)
def test_what_no_single_message_is_to_blame_for_is_said_of_all_of_them(messages: list[Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Conversation.model_validate({"messages": messages})
    [fault] = refused.value.errors()
    assert fault["loc"] == ("messages",)
    assert said in fault["msg"]


def test_the_longest_conversation_is_taken() -> None:
    assert len(Conversation.model_validate({"messages": [LONGEST] * 16}).messages) == 16
