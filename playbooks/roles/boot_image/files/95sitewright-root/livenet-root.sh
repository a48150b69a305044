#!/bin/sh
# Takes the place of dracut's livenetroot, which asks again every five seconds, begins anew each time, and waits for ever
# for a server that goes silent. A root that is not the one on the kernel command line is fetched again before it is
# refused: an answer without a length that was cut short looks whole.
# sitewright.mirrors=BASE,BASE: where else the directory of the image is, which is the last but one part of the root's URL.

PATH=/usr/sbin:/usr/bin:/sbin:/bin

type getarg > /dev/null 2>&1 || . /lib/dracut-lib.sh
. /lib/url-lib.sh
. /lib/sitewright-fetch.sh

FETCH_AGAIN=9 # exit status of verify-root.sh

# Every interface that comes up calls this.
[ -e /tmp/livenet.downloaded ] && exit 0
: > /tmp/livenet.downloaded

url=${2#livenet:}
place=${url#"${url%/*/*}"/}
set -- "$url"
mirrors=$(getarg sitewright.mirrors=)
mirrors=${mirrors:+$mirrors,}
while [ -n "$mirrors" ]; do
    set -- "$@" "${mirrors%%,*}/$place"
    mirrors=${mirrors#*,}
done

fetched=/tmp/sitewright-root.squashfs
round=1
while fetch_root "$fetched" "$@"; do
    # One that begins at each server, and two for answers that only look whole.
    if [ "$round" -lt $(($# + 2)) ]; then
        export SITEWRIGHT_FETCH_AGAIN=$FETCH_AGAIN
    else
        unset SITEWRIGHT_FETCH_AGAIN
    fi
    /sbin/dmsquash-live-root "$fetched"
    status=$?
    [ "$status" = "$FETCH_AGAIN" ] || exit "$status"
    if [ $# -gt 1 ] && [ "$FETCH_FROM" != several ]; then
        echo "sitewright: $FETCH_FROM holds something else, and is not asked again" >&2
        for server in "$@"; do
            shift
            [ "$server" = "$FETCH_FROM" ] || set -- "$@" "$server"
        done
        round=0
    fi
    sleep "$(pause_before "$round")"
    round=$((round + 1))
    # Not at the one behind the last: what is wrong may be the beginning, of a server that always breaks off.
    FETCH_TURN=$((FETCH_TURN + 1))
done
exit 1
