"""Your handlers: every module in here is imported at the start; functions with `@on` get events."""
