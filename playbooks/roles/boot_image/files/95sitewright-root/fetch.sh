#!/bin/sh
# Fetching the root patiently: an answer that was cut short or goes silent is continued where it ended, a server that
# refuses or is busy is asked again. The pauses grow, and no two nodes wait equally long: hundreds of them boot at once.
# Where several servers have the root, a node begins at any of them, and goes on at the next one each time it asks.
# Needs curl, od and sleep. What is set before this is read wins: a test waits less long.

: "${FETCH_ATTEMPTS:=100}"
: "${FETCH_CONNECT_SECONDS:=5}"
# Slower than this for so long is as good as silent.
: "${FETCH_SLOWEST:=1024}"
: "${FETCH_SILENT_SECONDS:=20}"
: "${FETCH_LONGEST_PAUSE:=15000}"
: "${FETCH_FIRST_PAUSE:=1000}"
# The server to begin at, counted round.
: "${FETCH_TURN:=$(($(od -An -N2 -tu2 /dev/urandom)))}"

# fetch_root FILE URL...: 0 with the whole of it in FILE, and in FETCH_FROM the URL that it came from, or "several"; 1 if
# it did not come in FETCH_ATTEMPTS.
fetch_root() {
    fetch_file=$1
    shift
    fetch_turn=$FETCH_TURN
    fetch_attempt=1
    FETCH_FROM=
    fetch_not_continued=0
    while fetch_url=$(url_of "$fetch_turn" "$@"); ! fetch_once "$fetch_url" "$fetch_file"; do
        # What one server does not continue another one may. Where none does it is whole, or has to be begun again.
        if [ "$fetch_not_continued" -ge $# ]; then
            [ "$fetch_status" != 0 ] || return 0
            rm -f "$fetch_file"
            FETCH_FROM=
            fetch_not_continued=0
        fi
        if [ "$fetch_attempt" -ge "$FETCH_ATTEMPTS" ]; then
            echo "sitewright: $fetch_url did not come in $fetch_attempt attempts: $fetch_reason" >&2
            return 1
        fi
        fetch_seconds=$(pause_before "$fetch_attempt")
        echo "sitewright: $fetch_url: $fetch_reason; attempt $fetch_attempt of $FETCH_ATTEMPTS, again in $fetch_seconds s" >&2
        sleep "$fetch_seconds"
        fetch_attempt=$((fetch_attempt + 1))
        fetch_turn=$((fetch_turn + 1))
    done
}

# url_of TURN URL...: the URL whose turn it is.
url_of() {
    shift $(($1 % ($# - 1) + 1))
    echo "$1"
}

# fetch_once URL FILE: continues what FILE holds already. curl_args: of dracut's url-lib, with the proxy if there is one.
fetch_once() {
    # shellcheck disable=SC2086
    fetch_said=$(curl ${curl_args:---globoff --location --fail --show-error} --retry 0 --silent \
        --connect-timeout "$FETCH_CONNECT_SECONDS" \
        --speed-limit "$FETCH_SLOWEST" --speed-time "$FETCH_SILENT_SECONDS" \
        --continue-at - --output "$2" --write-out '%{http_code} %{size_download}' -- "$1" 2> /dev/null)
    fetch_status=$?
    fetch_code=${fetch_said% *}
    if [ "$fetch_status" = 33 ] || [ "$fetch_code" = 416 ]; then
        fetch_not_continued=$((fetch_not_continued + 1))
    elif [ "$fetch_status" = 0 ] || [ "${fetch_said#* }" != 0 ]; then
        fetch_not_continued=0
        case $FETCH_FROM in
            "" | "$1") FETCH_FROM=$1 ;;
            *) FETCH_FROM=several ;;
        esac
    fi
    case $fetch_status in
        0)
            # curl takes 416 for the end of the whole file, but that of another server may be shorter.
            [ "$fetch_code" = 416 ] || return 0
            fetch_reason="the file there is not longer than what came"
            ;;
        6 | 7) fetch_reason="no connection" ;;
        18) fetch_reason="the answer was cut short" ;;
        22) fetch_reason="the server answered $fetch_code" ;;
        23) fetch_reason="there is no room for it in memory" ;;
        28) fetch_reason="no data for $FETCH_SILENT_SECONDS s, or no connection for $FETCH_CONNECT_SECONDS s" ;;
        33) fetch_reason="the server does not continue" ;;
        52 | 56) fetch_reason="the server hung up" ;;
        *) fetch_reason="curl ended with $fetch_status" ;;
    esac
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
