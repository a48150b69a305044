"""The one error type that reaches an operator.

Library code raises `SitewrightError`; only the command line and the Pulumi
provider turn it into text. Anything else that escapes is a bug and keeps its
traceback.
"""


class SitewrightError(Exception):
    """Something the operator can act on.

    message: where it happened, what was found, what would be right.
    hint:    what to do next, one sentence; empty when the message says it all.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message
