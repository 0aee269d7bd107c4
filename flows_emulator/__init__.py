"""The platform's webhook side, emulated: a development tool, which the function never imports."""
