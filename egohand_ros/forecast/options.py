"""What a running forecaster can be told, by name. Without torch, so that a wrong word is refused at once."""

AUTO = "auto"
PRECISIONS = (AUTO, "float32", "bfloat16", "float16")
NEWEST, TEMPORAL = "newest", "temporal"
AGGREGATIONS = (NEWEST, TEMPORAL)
REASONING, WAIT, BACKGROUND = "reasoning", "wait", "background"
