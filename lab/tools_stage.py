"""The build of the pinned programs, told in one line of a list of stages."""

from collections.abc import Callable, Sequence

from tools.build import Builder
from tools.pins import Module, Program
from tools.progress import Silent, Work


def build_programs(say: Callable[[str], None]) -> None:
    """Build what is missing: twenty minutes on a fresh machine, nothing afterwards."""
    Builder(progress=_Told(say)).build()


class _Told(Silent):
    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._left = 0

    def start(self, work: Work) -> None:
        self._left = len(work)

    def begin(self, module: Module, programs: Sequence[Program]) -> None:
        self._tell(module, 0, len(programs), "")
        self._wanted = len(programs)

    def show(self, module: Module, linked: int, package: str) -> None:
        self._tell(module, linked, self._wanted, package)

    def end(self, module: Module) -> None:
        self._left -= 1
        self._say("")

    def _tell(self, module: Module, linked: int, wanted: int, package: str) -> None:
        self._say(
            f"building {module.name}: {linked} of {wanted} programs, {self._left} modules left {package}"
        )
