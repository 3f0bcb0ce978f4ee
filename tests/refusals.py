"""What every test of an InputError asserts."""

from collections.abc import Callable

import pytest

from ridefense.errors import InputError


def refused(call: Callable[[], object], *words: str) -> str:
    """The message of the InputError that `call` raises: one line that has these words."""
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    return message
