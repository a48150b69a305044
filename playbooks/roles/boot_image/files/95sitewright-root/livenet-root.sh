#!/bin/sh
# Takes the place of dracut's livenetroot, which asks again every five seconds, begins anew each time, and waits for ever
# for a server that goes silent. A root that is not the one on the kernel command line is fetched again before it is
# refused: an answer without a length that was cut short looks whole.

type getarg > /dev/null 2>&1 || . /lib/dracut-lib.sh
. /lib/url-lib.sh
. /lib/sitewright-fetch.sh

PATH=/usr/sbin:/usr/bin:/sbin:/bin
ROUNDS=3
FETCH_AGAIN=9 # exit status of verify-root.sh

# Every interface that comes up calls this.
[ -e /tmp/livenet.downloaded ] && exit 0
: > /tmp/livenet.downloaded

url=${2#livenet:}
fetched=/tmp/sitewright-root.squashfs
round=1
while fetch_root "$url" "$fetched"; do
    if [ "$round" -lt "$ROUNDS" ]; then
        export SITEWRIGHT_FETCH_AGAIN=$FETCH_AGAIN
    else
        unset SITEWRIGHT_FETCH_AGAIN
    fi
    /sbin/dmsquash-live-root "$fetched"
    status=$?
    [ "$status" = "$FETCH_AGAIN" ] || exit "$status"
    sleep "$(pause_before "$round")"
    round=$((round + 1))
done
exit 1
