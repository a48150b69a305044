"""One digest over the content of files and directories.

Used to name what is built from them, so that the same sources are never built twice.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: path_digest
short_description: digest of files, directories and texts
options:
  paths:
    description: Files or directories; directories are read whole, in the order of their names.
    type: list
    elements: path
    required: true
  texts:
    description: Further strings that take part.
    type: list
    elements: str
    default: []
"""


def path_digest(paths: list[str], texts: list[str]) -> str:
    """sha256 in hex over relative names and contents; raises FileNotFoundError for a missing path."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(b"text\0" + text.encode() + b"\0")
    for root in map(Path, paths):
        files = sorted(_files(root)) if root.is_dir() else [root]
        for file in files:
            digest.update(f"file\0{file.relative_to(root.parent)}\0".encode())
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _files(directory: Path) -> list[Path]:
    """Without what Python leaves behind when it runs a file of them."""
    return [p for p in directory.rglob("*") if p.is_file() and "__pycache__" not in p.parts]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "required": True},
            "texts": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        digest = path_digest(module.params["paths"], module.params["texts"])
    except OSError as error:
        module.fail_json(msg=f"cannot read {error.filename}: {error.strerror}")
    module.exit_json(changed=False, digest=digest)


if __name__ == "__main__":
    main()
