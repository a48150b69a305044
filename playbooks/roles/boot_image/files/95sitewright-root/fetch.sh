#!/bin/sh
# Fetching the root patiently: an answer that was cut short or goes silent is continued where it ended, a server that
# refuses or is busy is asked again. The pauses grow, and no two nodes wait equally long: hundreds of them boot at once.
# Needs curl, od and sleep. What is set before this is read wins: a test waits less long.

: "${FETCH_ATTEMPTS:=100}"
: "${FETCH_CONNECT_SECONDS:=5}"
# Slower than this for so long is as good as silent.
: "${FETCH_SLOWEST:=1024}"
: "${FETCH_SILENT_SECONDS:=20}"
: "${FETCH_LONGEST_PAUSE:=15000}"
: "${FETCH_FIRST_PAUSE:=1000}"

# fetch_root URL FILE: 0 with the whole of it in FILE; 1 if it did not come in FETCH_ATTEMPTS.
fetch_root() {
    fetch_attempt=1
    while ! fetch_once "$1" "$2"; do
        if [ "$fetch_attempt" -ge "$FETCH_ATTEMPTS" ]; then
            echo "sitewright: $1 did not come in $fetch_attempt attempts: $fetch_reason" >&2
            return 1
        fi
        fetch_seconds=$(pause_before "$fetch_attempt")
        echo "sitewright: $1: $fetch_reason; attempt $fetch_attempt of $FETCH_ATTEMPTS, again in $fetch_seconds s" >&2
        sleep "$fetch_seconds"
        fetch_attempt=$((fetch_attempt + 1))
    done
}

# fetch_once URL FILE: continues what FILE holds already. curl_args: of dracut's url-lib, with the proxy if there is one.
fetch_once() {
    # shellcheck disable=SC2086
    fetch_code=$(curl ${curl_args:---globoff --location --fail --show-error} --retry 0 --silent \
        --connect-timeout "$FETCH_CONNECT_SECONDS" \
        --speed-limit "$FETCH_SLOWEST" --speed-time "$FETCH_SILENT_SECONDS" \
        --continue-at - --output "$2" --write-out '%{http_code}' -- "$1" 2> /dev/null)
    fetch_status=$?
    case $fetch_status in
        0) return 0 ;;
        6 | 7) fetch_reason="no connection" ;;
        18) fetch_reason="the answer was cut short" ;;
        22) fetch_reason="the server answered $fetch_code" ;;
        23) fetch_reason="there is no room for it in memory" ;;
        28) fetch_reason="no data for $FETCH_SILENT_SECONDS s, or no connection for $FETCH_CONNECT_SECONDS s" ;;
        33) fetch_reason="the server does not continue" ;;
        52 | 56) fetch_reason="the server hung up" ;;
        *) fetch_reason="curl ended with $fetch_status" ;;
    esac
    # What cannot be continued is begun again: a server without ranges, or a file there that is not longer than ours.
    if [ "$fetch_status" = 33 ] || [ "$fetch_code" = 416 ]; then
        rm -f "$2"
    fi
    return 1
}

# pause_before ATTEMPT: seconds as 1.234, doubled each time, and spread by half of it to both sides.
pause_before() {
    pause=$FETCH_FIRST_PAUSE
    pause_count=1
    while [ "$pause_count" -lt "$1" ] && [ "$pause" -lt "$FETCH_LONGEST_PAUSE" ]; do
        pause=$((pause * 2))
        pause_count=$((pause_count + 1))
    done
    [ "$pause" -le "$FETCH_LONGEST_PAUSE" ] || pause=$FETCH_LONGEST_PAUSE
    pause_random=$(od -An -N2 -tu2 /dev/urandom)
    pause=$((pause / 2 + pause * $pause_random / 65535))
    printf '%d.%03d\n' $((pause / 1000)) $((pause % 1000))
}
