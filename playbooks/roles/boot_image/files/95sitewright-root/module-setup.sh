#!/bin/bash
# Fetches the root more patiently than dracut, and puts a check between fetching and mounting it. Named so that it comes
# behind 90livenet and 90dmsquash-live, whose programs it takes the place of.

check() {
    require_binaries curl od sha256sum veritysetup || return 1
    return 255
}

depends() {
    echo dm livenet
}

installkernel() {
    instmods dm_verity sha256_generic loop
}

install() {
    inst_multiple curl od sha256sum veritysetup
    mv "$initdir/sbin/dmsquash-live-root" "$initdir/sbin/dmsquash-live-mount"
    inst_script "$moddir/verify-root.sh" /sbin/dmsquash-live-root
    rm "$initdir/sbin/livenetroot"
    inst_script "$moddir/livenet-root.sh" /sbin/livenetroot
    inst_simple "$moddir/fetch.sh" /lib/sitewright-fetch.sh
}
