#!/bin/sh
# livenet-root.sh calls this with the root that it fetched, in the place of dracut's dmsquash-live-root, which goes on with
# what passed. A root that is not the one on the kernel command line is not mounted, and the boot ends here.
# sitewright.verity=sha256:TOP@OFFSET: of the hash tree at OFFSET; each block is checked now, and again whenever it is
# read. sitewright.root=sha256:DIGEST: of the whole file, where there is no tree.

type getarg > /dev/null 2>&1 || . /lib/dracut-lib.sh

PATH=/usr/sbin:/usr/bin:/sbin:/bin
fetched=$1

refuse() {
    rm -f "$fetched"
    if [ -n "$SITEWRIGHT_FETCH_AGAIN" ]; then
        echo "sitewright: the root file system is fetched again: $1" >&2
        exit "$SITEWRIGHT_FETCH_AGAIN"
    fi
    die "sitewright: the root file system is refused: $1"
    exit 1
}

# Standard error of the initial root is the console; what dracut's `info` says is not on it.
say() {
    echo "$1" >&2
}

# systemd mounts the overlay as soon as this is through; dracut 057 makes its directories after that, and mounts it again.
[ -n "$(getarg rd.live.overlay=)" ] || mkdir -m 0755 -p /run/overlayfs /run/ovlwork

verity=$(getarg sitewright.verity=)
digest=$(getarg sitewright.root=)

if [ -n "$verity" ]; then
    top=${verity%@*}
    top=${top#sha256:}
    offset=${verity#*@}
    veritysetup verify --hash-offset="$offset" "$fetched" "$fetched" "$top" \
        || refuse "it does not match sitewright.verity=$verity"
    modprobe dm_verity
    veritysetup open --hash-offset="$offset" "$fetched" sitewright-root "$fetched" "$top" \
        || refuse "dm-verity cannot open it"
    say "sitewright: the root file system matches sitewright.verity=$verity"
    exec /sbin/dmsquash-live-mount /dev/mapper/sitewright-root
fi

[ -n "$digest" ] || refuse "neither sitewright.verity nor sitewright.root on the kernel command line says what it must be"
found=$(sha256sum < "$fetched")
[ "sha256:${found%% *}" = "$digest" ] || refuse "it has sha256:${found%% *}, not $digest"
say "sitewright: the root file system matches sitewright.root=$digest"
exec /sbin/dmsquash-live-mount "$fetched"
