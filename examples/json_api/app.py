"""A small JSON API: routes an event with `method` and `path` over notes kept in the environment."""

import json
import os

NOTES = {}


def handler(event, context):
    method, path = event.get("method", "GET"), event.get("path", "/")
    print(json.dumps({"method": method, "path": path, "requestId": context.aws_request_id}))
    if path == "/":
        return answer(200, {"service": os.environ.get("SERVICE_NAME", "notes"), "notes": len(NOTES)})
    if not path.startswith("/notes/"):
        return answer(404, {"error": f"nothing at {path}"})
    key = path.removeprefix("/notes/")
    if method == "PUT":
        NOTES[key] = event.get("body")
        return answer(201, {"id": key})
    if key not in NOTES:
        return answer(404, {"error": f"no note {key}"})
    if method == "DELETE":
        del NOTES[key]
        return answer(204, None)
    return answer(200, {"id": key, "body": NOTES[key]})


def answer(status, body):
    return {"statusCode": status, "body": body}
