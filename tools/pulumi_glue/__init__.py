"""The Pulumi programs that are not published as Go modules: the Python language host and pulumi-random.

Both are used only where the official program is not installed (tools/found.py); a stack moves to the official
ones without a change, because types, property names and the state are theirs.
"""
