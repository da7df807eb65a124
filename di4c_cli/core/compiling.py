"""torch.compile that a machine without a compiler survives."""

import warnings
from collections.abc import Callable
from typing import Any

import torch


class Compiled:
    """A function compiled at its first call; where that fails, the function as it is from then on."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self.function = function
        self.fast: Callable[..., Any] | None = torch.compile(function, **options)

    def __call__(self, *given: Any) -> Any:
        if self.fast is None:
            return self.function(*given)
        try:
            return self.fast(*given)
        except Exception as error:  # compilers fail with errors of every kind; a bug fails once more below
            self.fast = None
            reason = (str(error).strip().splitlines() or [""])[0][:100]
            warnings.warn(f"cannot compile, going on without: {type(error).__name__} {reason}", stacklevel=2)
        return self.function(*given)
