"""The bill of materials of an image: SPDX 2.3, the same for the same packages."""

import json
from datetime import date

from sitewright.artifacts.sbom import Package, inventory, spdx

PRINTED = (
    "libstdc++6\t12.2.0-14\tamd64\tDebian GCC Maintainers <debian-gcc@lists.debian.org>\n"
    "bash\t5.2.15-2+b2\tamd64\tMatthias Klose <doko@debian.org>\n"
    "linux-image-6.1\t1:6.1.0-1\tamd64\tDebian Kernel Team <k@debian.org>\n"
)
PROGRAMS = {"/usr/local/bin/kubelet": "ab" * 32, "/opt/cni/bin/bridge": "cd" * 32}


def document(printed: str = PRINTED, programs: dict[str, str] = PROGRAMS) -> dict:
    return spdx("compute", date(2026, 1, 2), "debian", "bookworm", inventory(printed), programs)


def test_what_dpkg_prints_is_read_and_sorted():
    assert inventory(PRINTED)[0] == Package(
        "bash", "5.2.15-2+b2", "amd64", "Matthias Klose <doko@debian.org>"
    )
    assert [one.name for one in inventory(PRINTED)] == ["bash", "libstdc++6", "linux-image-6.1"]


def test_it_has_what_spdx_requires_of_a_document():
    made = document()
    assert (made["spdxVersion"], made["dataLicense"], made["SPDXID"]) == (
        "SPDX-2.3",
        "CC0-1.0",
        "SPDXRef-DOCUMENT",
    )
    assert made["creationInfo"] == {"created": "2026-01-02T00:00:00Z", "creators": ["Tool: sitewright"]}
    assert all({"name", "SPDXID", "downloadLocation"} <= part.keys() for part in made["packages"])
    identifiers = [part["SPDXID"] for part in made["packages"]]
    assert len(set(identifiers)) == len(identifiers) == 6
    assert made["relationships"][0] == {
        "spdxElementId": "SPDXRef-DOCUMENT",
        "relationshipType": "DESCRIBES",
        "relatedSpdxElement": "SPDXRef-Image",
    }
    assert [one["relatedSpdxElement"] for one in made["relationships"][1:]] == identifiers[1:]


def test_a_package_has_version_supplier_and_the_url_that_scanners_look_up():
    [found] = [part for part in document()["packages"] if part["name"] == "libstdc++6"]
    assert found["SPDXID"] == "SPDXRef-Package-libstdc.2b.2b6-amd64"
    assert found["supplier"] == "Organization: Debian GCC Maintainers (debian-gcc@lists.debian.org)"
    [reference] = found["externalRefs"]
    assert reference["referenceLocator"] == (
        "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14?arch=amd64&distro=debian-bookworm"
    )


def test_a_program_that_came_from_no_package_is_there_with_its_digest():
    [found] = [part for part in document()["packages"] if part["name"] == "/usr/local/bin/kubelet"]
    assert found["checksums"] == [{"algorithm": "SHA256", "checksumValue": "ab" * 32}]


def test_the_same_content_is_the_same_document_in_whatever_order_it_came():
    turned = "".join(reversed(PRINTED.splitlines(keepends=True)))
    assert json.dumps(document(turned, dict(reversed(PROGRAMS.items())))) == json.dumps(document())


def test_other_content_has_another_name():
    names = {
        document()["documentNamespace"],
        document(PRINTED.replace("5.2.15", "5.2.16"))["documentNamespace"],
    }
    assert len(names | {document(programs={})["documentNamespace"]}) == 3
