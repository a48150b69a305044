"""Ends this process when the engine that started it is gone; an engine that was killed cannot end its plugins."""

from __future__ import annotations

import os
import threading
import time


def end_with_parent() -> None:
    """Starts watching; the process ends at most a second after its parent."""
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
