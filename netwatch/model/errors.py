"""The whole tree of errors that a person may see, and the exit code each one ends a command with.

    NetwatchError            1  something could not be done
    ├── UsageError           2  the command was called wrongly
    ├── InvalidDocument      1  a file does not say what it must (names file, line, column)
    ├── Violations           3  the answer is "no": findings, violations or drift
    └── Unreachable          4  the controller did not answer

Every error says what to do next in `hint`. The shape of its JSON is fixed by the interface.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Replacement(NamedTuple):
    """What to write instead of the text from one place of a file to another, to be right.

    Lines and columns count from 1; the end is just behind what goes. Nothing goes where both are
    the same: `text` is put in there.
    """

    line: int
    column: int
    end_line: int
    end_column: int
    text: str


class NetwatchError(Exception):
    """Something could not be done; `message` says what, `hint` what would help."""

    exit_code = 1
    code = "error"

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        code: str | None = None,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
        replacement: Replacement | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or type(self).code
        self.file = file
        self.line = line
        self.column = column
        self.replacement = replacement

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        text = f"{where}: {self.message}" if where else self.message
        return f"{text} ({self.hint})" if self.hint else text

    def as_json(self) -> dict[str, Any]:
        """`{"ok": false, "error": {...}}` with every key always present; `replacement` is beside
        the error where there is one, so that the error has the shape of the interface.
        """
        answer: dict[str, Any] = {
            "ok": False,
            "error": {
                "code": self.code,
                "message": self.message,
                "hint": self.hint,
                "file": self.file,
                "line": self.line,
                "column": self.column,
            },
        }
        if self.replacement is not None:
            answer["replacement"] = self.replacement._asdict()
        return answer


class UsageError(NetwatchError):
    """The command was called wrongly."""

    exit_code = 2
    code = "usage"


class InvalidDocument(NetwatchError):
    """A file does not say what it must; file, line and column name the place."""

    code = "invalid-document"


class Violations(NetwatchError):
    """The question was answered with findings, violations or drift."""

    exit_code = 3
    code = "violations"


class Unreachable(NetwatchError):
    """The controller did not answer."""

    exit_code = 4
    code = "unreachable"
