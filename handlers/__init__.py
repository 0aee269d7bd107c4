"""Your handlers: every module in here is imported at the start, each function with `@on` called."""
