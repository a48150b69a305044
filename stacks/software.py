"""A Python environment of images/environments/, on the shared file system."""

from sitewright.provider import PlaybookRun
from sitewright.site import Site
from stacks.access import environment


def software_run(site: Site, name: str) -> PlaybookRun:
    """The run that builds and publishes it; its result `python` is the interpreter as nodes see it."""
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
