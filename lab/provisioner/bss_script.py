"""BSS boot scripts: the iPXE text a node gets, down to the real service's spaces and defects.

Source: BSS 1.32, recorded exchanges in tests/data/contracts and the service's documentation.
"""

from dataclasses import dataclass

RETRY_SECONDS = 30
LOOKUP_SECONDS = 10


@dataclass(frozen=True)
class BootData:
    """What BSS stores for a host, a role or a MAC. kernel empty: nothing to boot."""

    params: str = ""
    kernel: str = ""
    initrd: str = ""
    # Parameters stored with the kernel or the initrd itself, for every host that uses them.
    image_params: str = ""
    referral_token: str = ""


def kernel_arguments(boot: BootData, xname: str, nid: str, mac: str, seed_url: str) -> str:
    """The kernel command line.

    mac: as the node gave it, empty if it asked by name or NID (it then gets no BOOTIF).
    Raises: IndexError where the real service crashes, on parameters that end in a word with `initrd`.
    """
    params = " ".join(part for part in (boot.params, boot.image_params) if part)
    params = _add(params, "xname=", xname)
    params = _add(params, "nid=", nid)
    params = _add(params, "bss_referral_token=", boot.referral_token)
    params = _add(params, "BOOTIF=", f"01-{mac.replace(':', '-')}" if mac else "")
    params = _add(params, "ds=", f"nocloud-net;s={seed_url.rstrip('/')}/")
    if boot.initrd:
        params = f"initrd=initrd {_without_initrd(params)}"
    return params.strip(" ")


def _add(params: str, name: str, value: str) -> str:
    if not value or any(word.startswith(name) for word in params.split(" ")):
        return params
    return f"{params} {name}{value}"


def _without_initrd(params: str) -> str:
    """`params` without the text from the first "initrd" to the next space: a defect that mangles URLs."""
    start = params.find("initrd")
    if start < 0:
        return params
    end = params.find(" ", start)
    if end < 0:
        raise IndexError("index out of range")
    return params[:start] + params[end:]


def boot_script(boot: BootData, arguments: str, chain: str) -> str:
    lines = ["#!ipxe", f"kernel --name kernel {boot.kernel} {arguments} || goto boot_retry"]
    if boot.initrd:
        lines.append(f"initrd --name initrd {boot.initrd} || goto boot_retry")
    lines += ["boot || goto boot_retry", ":boot_retry", f"sleep {RETRY_SECONDS}", f"chain {chain}", "", ""]
    return "\n".join(lines)


def ask_again_script(chain: str) -> str:
    """For a node BSS does not know: come back, with your architecture, while BSS reads SMD again."""
    return f"#!ipxe\nsleep {LOOKUP_SECONDS}\nchain {chain}\n\n"
