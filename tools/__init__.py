"""Pinned programs built from Go modules, and the Pulumi glue for Python.

`python -m tools build` makes them, `tools.locate.tool(name)` finds them,
`tools.environment.pulumi_environment()` is the environment to run `pulumi` in.
"""
