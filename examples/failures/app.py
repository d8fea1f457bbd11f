"""Goes wrong in every way a function can; the event says how."""

import datetime
import os
import sys
import time


def fail(event, context):
    raise ValueError(event.get("message", "as asked"))


def leave(event, context):
    sys.exit(event.get("status", 1))


def die(event, context):
    os._exit(event.get("status", 0))


def sleep(event, context):
    time.sleep(event.get("seconds", 60))
    return {"slept": event.get("seconds", 60), "remaining": context.get_remaining_time_in_millis()}


def hog(event, context):
    hoard = []
    while True:
        hoard.append(bytearray(8 * 1024 * 1024))


def chatter(event, context):
    for number in range(event.get("lines", 10_000)):
        print(f"line {number} " + "x" * event.get("width", 80))
    return {"lines": event.get("lines", 10_000)}


def not_json(event, context):
    return {"when": datetime.datetime(2026, 1, 1)}


def too_much(event, context):
    return "x" * event.get("bytes", 7 * 1024 * 1024)


KINDS = {f.__name__: f for f in (fail, leave, die, sleep, hog, chatter, not_json, too_much)}


def handler(event, context):
    return KINDS[event["kind"]](event, context)
