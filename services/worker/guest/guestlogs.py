"""The logging handler that a function finds on the root logger, in AWS's text or JSON form."""

from __future__ import annotations

import importlib
import json
import logging
import sys
import time
import traceback
from typing import Any, Dict

wire: Any = importlib.import_module("_lambent_wire")

# What a function may set as its log level (LoggingConfig.ApplicationLogLevel).
LEVELS = {
    "TRACE": logging.DEBUG,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
}
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {
    "message",
    "asctime",
    "taskName",
    "aws_request_id",
    "tenant_id",
}


class RequestFilter(logging.Filter):
    """Puts the request id on every record, and the tenant id."""

    def __init__(self, server: Any) -> None:
        super().__init__()
        self._server = server

    def filter(self, record: logging.LogRecord) -> bool:
        record.aws_request_id = self._server.request_id
        record.tenant_id = self._server.tenant_id
        return True


def write_record(text: str) -> None:
    """One event of the log, whatever lines it has, on whatever is standard output at that moment."""
    stream = sys.stdout
    if text.endswith("\n"):
        text = text[:-1]
    if stream is sys.__stdout__:  # else somebody reads it who cuts nothing
        text = text.replace("\n", wire.BREAK)
    stream.write(text + "\n")


class Output(logging.Handler):
    """Writes records."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            write_record(self.format(record))
        except Exception:
            self.handleError(record)


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        line: Dict[str, Any] = {
            "timestamp": moment,
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
        }
        request_id = getattr(record, "aws_request_id", "")
        if request_id:
            line["requestId"] = request_id
        tenant_id = getattr(record, "tenant_id", None)
        if tenant_id is not None:
            line["tenantId"] = tenant_id
        if record.exc_info and record.exc_info[1] is not None:
            kind, error, trace = record.exc_info
            frames = traceback.extract_tb(trace)
            line["stackTrace"] = traceback.format_list(frames)
            line["errorType"] = kind.__name__ if kind is not None else None
            line["errorMessage"] = str(error)
            line["location"] = "%s:%s:%d" % (record.pathname, record.funcName, record.lineno)
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        return json.dumps(line, default=str)


def handler(server: Any, as_json: bool) -> logging.Handler:
    """The handler for the root logger."""
    output = Output()
    if as_json:
        output.setFormatter(JsonFormatter())
    else:
        form = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"
        formatter = logging.Formatter(form, "%Y-%m-%dT%H:%M:%S")
        formatter.converter = time.gmtime
        output.setFormatter(formatter)
    output.addFilter(RequestFilter(server))
    return output
