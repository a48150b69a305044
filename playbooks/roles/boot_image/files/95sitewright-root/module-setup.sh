#!/bin/bash
# Puts a check between fetching the root and mounting it. Named so that it comes behind 90dmsquash-live, whose program
# it takes the place of.

check() {
    require_binaries sha256sum veritysetup || return 1
    return 255
}

depends() {
    echo dm livenet
}

installkernel() {
    instmods dm_verity sha256_generic loop
}

install() {
    inst_multiple sha256sum veritysetup
    mv "$initdir/sbin/dmsquash-live-root" "$initdir/sbin/dmsquash-live-mount"
    inst_script "$moddir/verify-root.sh" /sbin/dmsquash-live-root
}
