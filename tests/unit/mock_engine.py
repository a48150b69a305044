"""Pulumi without an engine: what a component registers, by the name of the resource."""

import pulumi


class Engine(pulumi.runtime.Mocks):
    def __init__(self) -> None:
        self.made: dict[str, dict] = {}

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict]:
        self.made[args.name] = args.inputs
        return args.name, args.inputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict, None]:
        raise AssertionError(args.token)
