"""Errors that a user can cause, each told in one line with its place and a hint.

Everything else is a bug and keeps its traceback.

    Di4CError
    +-- RecipeError        a recipe or an override is wrong                exit code 2
    +-- DataError          a data set is missing or not what it should be  exit code 2
    +-- CheckpointError    a checkpoint is missing, foreign or damaged     exit code 2
    +-- UsageError         arguments that do not go together               exit code 2
    +-- RunError           a run could not go on (disk full, ...)          exit code 1
    +-- NonFiniteLossError the loss became NaN or infinite                 exit code 3
    +-- Interrupted        Ctrl-C or SIGTERM, after saving                 exit code 130 or 143
"""


class Di4CError(Exception):
    """What is wrong and where (`message`), and what to do about it (`hint`)."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class RecipeError(Di4CError):
    exit_code = 2


class DataError(Di4CError):
    exit_code = 2


class CheckpointError(Di4CError):
    exit_code = 2


class UsageError(Di4CError):
    exit_code = 2


class RunError(Di4CError):
    exit_code = 1


class NonFiniteLossError(Di4CError):
    exit_code = 3


class Interrupted(Di4CError):
    """Training stopped on a signal after a resumable checkpoint was written."""

    def __init__(self, message: str, hint: str = "", *, exit_code: int = 130) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code
