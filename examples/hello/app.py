"""Greets whoever the event names."""

import json


def handler(event, context):
    name = event.get("name", "world")
    print(json.dumps({"message": "greeting", "name": name, "requestId": context.aws_request_id}))
    return {"greeting": f"Hello, {name}!"}
