"""The two kinds of failure: what a user can mend (`UserError`) and input that is refused and counted (`RejectedInput`).

Anything else that is raised is a bug and keeps its traceback.
"""


class UserError(Exception):
    """A mistake that the user can mend; its one line says what was given, what was expected and how to fix it."""


class RejectedInput(ValueError):
    """One message or sample that is not used. `reason` is a short snake_case key under which it is counted."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
