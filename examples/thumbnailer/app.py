"""Scales an image down, with Pillow from the package: base64 in, base64 out."""

import base64
import io

from PIL import Image


def handler(event, context):
    image = Image.open(io.BytesIO(base64.b64decode(event["image"])))
    before = image.size
    image.thumbnail((event.get("size", 64),) * 2)
    out = io.BytesIO()
    image.save(out, "PNG")
    return {"before": before, "after": image.size, "image": base64.b64encode(out.getvalue()).decode()}
