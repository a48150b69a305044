"""Which image a roll leads to: the one that is declared, the one that the operator names, or the one before."""

from collections.abc import Mapping, Sequence

from sitewright.errors import SitewrightError
from sitewright.lifecycle.cluster_node import ClusterNode
from sitewright.lifecycle.images import boots_next, published, running, short
from sitewright.lifecycle.journal import Journal
from sitewright.provisioning.openchami import Known
from sitewright.site import Site
from sitewright.site.hostlist import fold


def declared(pool: str, nodes: Sequence[str], known: Mapping[str, Known]) -> str:
    """The image that the provisioner has for all nodes of a pool.

    Raises: SitewrightError where it has none for one of them, or not the same for all.
    """
    by_image: dict[str, list[str]] = {}
    for name in nodes:
        by_image.setdefault(boots_next(known.get(name)), []).append(name)
    if without := by_image.get(""):
        raise SitewrightError(
            f"pool {pool}: the provisioner has no boot image for {fold(without)}", "`pulumi up` declares it."
        )
    if len(by_image) > 1:
        raise SitewrightError(
            f"pool {pool}: its nodes boot different images: "
            + ", ".join(f"{short(image)} {fold(names)}" for image, names in by_image.items()),
            "`pulumi up --refresh` declares one for all; or name one with --image.",
        )
    return next(iter(by_image))


def before(journal: Journal | None) -> str:
    """The image that the pool ran before its last roll.

    Raises: SitewrightError where no roll is known, or where its nodes ran different images.
    """
    if journal is None:
        raise SitewrightError(
            "no roll of this pool is recorded here, so it is not known what it ran before",
            "Name the image: `sitewright images list` shows those that are published; then --image.",
        )
    if journal.back:
        return journal.target
    found = {digest for digest in journal.before.values() if digest not in ("", journal.target)}
    if len(found) != 1:
        ran = ", ".join(sorted(map(short, found))) or "none that is known"
        raise SitewrightError(f"before its last roll the pool ran {ran}", "Name the image with --image.")
    return found.pop()


def journal_for(
    site: Site,
    environment: str,
    pool: str,
    nodes: Mapping[str, ClusterNode | None],
    known: Mapping[str, Known],
    last: Journal | None,
    image: str | None,
    back: bool,
    reboot: bool,
) -> Journal:
    """The journal of the roll that is asked for: a new one, or the last one if that is to go on.

    nodes: of the pool, as the cluster has them; image: digest, or how it begins; back: to the image before;
    reboot: also those that run it. A roll that goes on does so as it was begun.
    """
    if back:
        target = before(last)
        published(site, target)
    elif image is not None:
        target = f"sha256:{published(site, image).digest}"
    elif last and not last.complete and (last.asked or last.back):
        target, back, image = last.target, last.back, last.target
    else:
        target = declared(pool, list(nodes), known)
    asked = image is not None or back
    if last and (back or not last.complete):
        begun = {"reboot": reboot or (last.reboot and not last.complete), "complete": False}
        return last.model_copy(update={"target": target, "asked": asked, "back": back, **begun})
    # A pool that boots the image it runs could not go back any more.
    kept = last.before if last and last.target == target else {}
    ran = kept or {name: running(node) for name, node in nodes.items()}
    return Journal(environment=environment, pool=pool, target=target, before=ran, asked=asked, reboot=reboot)
