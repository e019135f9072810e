"""Figures as JSON that any reader takes (RFC 8259): what is not a number is null, for NaN is none of its words."""

import json
import math
from typing import Any


def json_text(content: Any) -> str:
    """The text of dicts, lists and plain values, indented, with NaN and infinities as null."""
    return json.dumps(without_nan(content), indent=2, allow_nan=False)


def without_nan(value: Any) -> Any:
    """The same dicts and lists, with NaN and infinities as None."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
