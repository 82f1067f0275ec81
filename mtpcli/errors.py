"""What can go wrong in a way the user can mend: each kind knows its exit code."""

from __future__ import annotations


class MtpError(Exception):
    """A known error: one line that says what is wrong and what to do about it.

    Attributes:
        exit_code: the process's exit code when the error reaches the command line.
    """

    exit_code = 1


class UsageError(MtpError):
    """Options that contradict each other or have impossible values."""

    exit_code = 2


class ModelError(MtpError):
    """A model file that is missing, broken, foreign, or does not fit its partner."""

    exit_code = 3


class InputError(MtpError):
    """Input data (a prompt, a line of a batch) that cannot be used."""

    exit_code = 4
