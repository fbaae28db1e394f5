"""Logs: one line a record, as text for people or JSON for machines."""

import json
import logging
import sys
import time
from typing import Literal

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Formatter(logging.Formatter):
    """What both forms share: the facts given by `extra=`."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    @staticmethod
    def facts(record: logging.LogRecord) -> dict[str, object]:
        return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class TextFormatter(_Formatter):
    """`12:00:00.123 INFO text key=value …`."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        facts = "".join(f" {key}={value}" for key, value in self.facts(record).items())
        line = f"{clock}.{int(record.msecs):03d} {record.levelname} {record.getMessage()}{facts}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonFormatter(_Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats a record."""
        entry: dict[str, object] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "node": self._node,
            "logger": record.name,
            "message": record.getMessage(),
            **self.facts(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def _is_ours(record: logging.LogRecord) -> bool:
    """Leaves out what gRPC logs as an error, with a traceback, where a connection has died.

    It does so whenever an answer fails before it has noticed that nobody is there to take it.
    """
    kind = record.exc_info[0] if record.exc_info else None
    is_lost = kind is not None and kind.__name__ == "ExecuteBatchError"
    return not (is_lost and record.name.startswith("grpc"))


def configure(level: str, style: Literal["text", "json"], node: str) -> None:
    """Sends all logs of this process to standard error.

    Args:
        level: Least severe level shown.
        style: The form of a line.
        node: Name of this process.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_is_ours)
    handler.setFormatter(JsonFormatter(node) if style == "json" else TextFormatter(node))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
