"""Calls from this process into the lab's network: a thread enters the namespace, does one thing and ends."""

import ctypes
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from lab import network, paths
from sitewright.errors import SitewrightError

CLONE_NEWNET = 0x40000000  # <sched.h>
Result = TypeVar("Result")


def within(function: Callable[..., Result], *arguments: Any) -> Result:
    """What the function returns when it runs in the lab's network namespace. Sockets it opens stay there.
    The rest of the process does not move: a namespace belongs to a thread."""
    answer: list[Result] = []
    problems: list[BaseException] = []

    def enter_and_call() -> None:
        try:
            _enter()
            answer.append(function(*arguments))
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=enter_and_call, name="lab-namespace", daemon=True)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
    return answer[0]


def answers(address: str, port: int, timeout: float = 1.0) -> bool:
    """Whether something in the lab accepts connections there."""
    return within(connects, address, port, timeout)


def connects(address: str, port: int, timeout: float = 1.0) -> bool:
    """Whether something accepts connections there, seen from the network this thread is in."""
    try:
        socket.create_connection((address, port), timeout).close()
    except OSError:
        return False
    return True


def wait_until(condition: Callable[[], bool], timeout: float, interval: float = 0.1) -> bool:
    """True as soon as the condition holds, False if it does not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


def _enter() -> None:
    path = network.NETNS_DIR / paths.lab_name()
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError as problem:
        raise SitewrightError("the lab is not up", "`sitewright lab up` starts it.") from problem
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
            raise SitewrightError(f"cannot enter the lab's network: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(descriptor)
