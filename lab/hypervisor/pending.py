"""Why a machine cannot start yet."""

from sitewright.errors import SitewrightError


class Pending(SitewrightError):
    """Something a VM needs is not there. It is looked for again; the VM's status says so meanwhile.

    printable: KubeVirt's one-word status of such a VM, for example `ErrorPvcNotFound`.
    """

    def __init__(self, printable: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.printable = printable
        self.reason = reason
