"""The parts that rules of Prometheus are written in here.

Burn rates: an objective of 99.9 % allows 1 bad request in 1,000 over 30 days. An alert fires when what is allowed is
used up so much faster than that, over a long window and still over a short one. Source: Google, The Site Reliability
Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts".
"""

from typing import Any, NamedTuple

WINDOWS = ("5m", "30m", "1h", "6h")
RUNBOOKS = "docs/runbooks"


class Burn(NamedTuple):
    """times: faster than the objective allows; both windows must show it."""

    times: float
    long: str
    short: str
    severity: str


BURNS = (Burn(14.4, "1h", "5m", "page"), Burn(6, "6h", "30m", "ticket"))


def record(name: str, expression: str, bound: float | None = None) -> dict[str, Any]:
    rule: dict[str, Any] = {"record": name, "expr": expression}
    return rule if bound is None else {**rule, "labels": {"within": f"{bound:g}"}}


def burning(alert: str, burn: Burn, condition: str, summary: str, runbook: str) -> dict[str, Any]:
    """condition: with `%s` in place of the window."""
    return {
        "alert": alert,
        "expr": f"{condition % burn.long} and {condition % burn.short}",
        **said(burn.severity, summary, runbook),
    }


def said(severity: str, summary: str, runbook: str) -> dict[str, Any]:
    return {
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "runbook": f"{RUNBOOKS}/{runbook}"},
    }
