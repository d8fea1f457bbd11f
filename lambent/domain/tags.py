"""Tags of functions, event source mappings, rules and groups of schedules: what may be set.

Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-tags.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lambent.domain.errors import AwsError, invalid_parameter
from lambent.domain.limits import Limits

# Keys that begin so are AWS's own, in any case of letters.
_RESERVED = "aws:"


def check_tags(tags: Mapping[str, str], limits: Limits, invalid: Callable[[str], AwsError] = invalid_parameter) -> None:
    """All tags that a resource is to have. Raises what `invalid` makes of a text."""
    if len(tags) > limits.tags:
        raise invalid("Number of tags exceeds resource tag limit.")
    for key, value in tags.items():
        if not 1 <= len(key) <= limits.tag_key_length:
            raise invalid(f"The key of a tag must have 1 to {limits.tag_key_length} characters.")
        if len(value) > limits.tag_value_length:
            raise invalid(f"The value of a tag must have at most {limits.tag_value_length} characters.")
        if key.lower().startswith(_RESERVED):
            raise invalid(f"Keys of tags that begin with {_RESERVED} are reserved: {key}")
