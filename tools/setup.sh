#!/bin/bash
# Installs the Debian packages of images/lab-packages.txt and the locked Python
# environment. Safe to run again; changes nothing that is already there.
set -euo pipefail
cd "$(dirname "$0")/.."
uv_version=0.13.9

missing=()
while read -r package _; do
  [[ -z $package || $package == \#* ]] && continue
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done < images/lab-packages.txt
if ((${#missing[@]})); then
  if ((EUID != 0)); then
    echo "setup: these Debian packages are missing: ${missing[*]}" >&2
    echo "  Run as root: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  echo "setup: installing ${#missing[@]} Debian packages: ${missing[*]}"
  # Services that a package would start have no place outside the lab's namespace.
  if [[ ! -e /usr/sbin/policy-rc.d ]]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
    chmod 0755 /usr/sbin/policy-rc.d
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
fi

if command -v uv > /dev/null && uv --version > /dev/null 2>&1; then
  uv=uv
else
  [[ -x .venv-uv/bin/uv ]] || { python3 -m venv .venv-uv && .venv-uv/bin/pip install -q "uv==$uv_version"; }
  uv=.venv-uv/bin/uv
fi
# Debian's own Python, whichever others there are: what runs here runs on every Debian 12.
echo "setup: Python environment from uv.lock"
"$uv" sync --quiet --locked --python /usr/bin/python3
