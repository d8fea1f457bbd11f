"""Our own processes' logs: one JSON object a line on standard error, with the request id wherever there is one."""

from __future__ import annotations

import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

# Attributes of every LogRecord; whatever else a record carries came in `extra` and is written as a field.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _plain(value: object) -> str:
    return str(value)


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "service", "logger", "message", ...extra, "error"?}`."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service
        self._encoder = msgspec.json.Encoder(enc_hook=_plain)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = "".join(traceback.format_exception(record.exc_info[1]))
        return self._encoder.encode(line).decode()


class TextFormatter(logging.Formatter):
    """For people at a terminal: time, level, service, message, then the extra fields as key=value."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        extra = " ".join(f"{key}={value}" for key, value in vars(record).items() if key not in _STANDARD)
        line = f"{time} {record.levelname:<7} {self._service:<9} {record.getMessage()}{' ' + extra if extra else ''}"
        if record.exc_info and record.exc_info[1] is not None:
            line += "\n" + "".join(traceback.format_exception(record.exc_info[1])).rstrip()
        return line


def configure(service: str, *, level: str, form: str, stream: TextIO = sys.stderr) -> None:
    """Set up the root logger of a process. `form` is json or text."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter(service) if form == "json" else TextFormatter(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # grpc logs every reconnection attempt; ours say the same with more meaning.
    logging.getLogger("grpc").setLevel(logging.CRITICAL)
    logging.getLogger("urllib3").setLevel(logging.WARNING)  # it tells of redirections, whose URLs let people in
