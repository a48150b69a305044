"""What is in a root file system, as a software bill of materials.

Source: SPDX 2.3, clauses 6 (document), 7 (package), 11 (relationships), and its JSON schema; package URLs of Debian
and RPM: purl-spec, types deb and rpm.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import quote

# What inventory() reads, a line a package; a query program of each kind of root prints it.
DPKG_QUERY = r"${Package}\t${Version}\t${Architecture}\t${Maintainer}\n"
RPM_QUERY = r"%{NAME}\t%{EVR}\t%{ARCH}\t%{VENDOR}\n"
_ROOT = "SPDXRef-Image"
_BRACKETS = str.maketrans("<>", "()")  # SPDX writes an address behind a name in round ones


@dataclass(frozen=True, order=True)
class Package:
    name: str
    version: str
    architecture: str
    supplier: str


def inventory(printed: str) -> list[Package]:
    """The packages that DPKG_QUERY or RPM_QUERY printed, sorted."""
    return sorted(Package(*line.split("\t")) for line in printed.splitlines() if line)


def spdx(
    name: str,
    day: date,
    distribution: str,
    release: str,
    packages: Sequence[Package],
    programs: Mapping[str, str],
) -> dict[str, Any]:
    """The document. It follows from the arguments alone, so the same image has the same one.

    name: of the image; day: of its packages; programs: sha256 by path of what came from no package.
    """
    parts = [_package(one, distribution, release) for one in packages]
    parts += [_program(path, digest) for path, digest in sorted(programs.items())]
    content = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    image = {
        "name": name,
        "SPDXID": _ROOT,
        "versionInfo": day.isoformat(),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "primaryPackagePurpose": "OPERATING-SYSTEM",
    }
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://sitewright.dev/spdx/{quote(name)}-{content[:32]}",
        "creationInfo": {"created": f"{day.isoformat()}T00:00:00Z", "creators": ["Tool: sitewright"]},
        "packages": [image, *parts],
        "relationships": [
            _relation("SPDXRef-DOCUMENT", "DESCRIBES", _ROOT),
            *(_relation(_ROOT, "CONTAINS", part["SPDXID"]) for part in parts),
        ],
    }


def _package(one: Package, distribution: str, release: str) -> dict[str, Any]:
    kind = "deb" if distribution == "debian" else "rpm"
    purl = (
        f"pkg:{kind}/{distribution}/{quote(one.name)}@{quote(one.version)}"
        f"?arch={one.architecture}&distro={distribution}-{release}"
    )
    return {
        "name": one.name,
        "SPDXID": _identifier("Package", f"{one.name}-{one.architecture}"),
        "versionInfo": one.version,
        "supplier": f"Organization: {one.supplier.translate(_BRACKETS)}",
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": purl,
            }
        ],
    }


def _program(path: str, digest: str) -> dict[str, Any]:
    return {
        "name": path,
        "SPDXID": _identifier("Program", path),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "checksums": [{"algorithm": "SHA256", "checksumValue": digest}],
        "primaryPackagePurpose": "APPLICATION",
    }


def _identifier(kind: str, text: str) -> str:
    """SPDX allows letters, digits, dots and hyphens: others are written as their code, so that none is another's."""
    return f"SPDXRef-{kind}-" + re.sub(r"[^A-Za-z0-9-]", lambda found: f".{ord(found[0]):02x}", text)


def _relation(of: str, kind: str, to: str) -> dict[str, str]:
    return {"spdxElementId": of, "relationshipType": kind, "relatedSpdxElement": to}
