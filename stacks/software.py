"""A directory of Python packages on the shared file system, from images/environments/<name>."""

from sitewright.provider import PlaybookRun
from sitewright.site import Site
from stacks.access import environment


def software(site: Site, name: str) -> PlaybookRun:
    """Its output `python` is the interpreter as a node sees it. Once per name and stack."""
    return PlaybookRun(
        f"software-{name}",
        playbook="playbooks/prepare-software.yml",
        verify="playbooks/verify-software.yml",
        environment=environment(site),
        variables={
            "software_environment": name,
            "publish_dir": str(site.shared_filesystem.publish_dir),
            "path": site.shared_filesystem.path,
        },
        files=[f"images/environments/{name}/**"],
        timeout="30m",
    )
