#!/usr/bin/env bash
# Does a running Sidegate refuse what it should? Black-box checks with curl alone, one line each; exit 1 if any fails.
#   scripts/test-security.sh [URL]                 default: http://127.0.0.1:8080, where `scripts/run` serves
# It opens some 90 sessions at most, sends one real message, and then finds this address limited for a minute: don't point it
# at a service whose visitors share your address. It shows that the checks are in force, not that there are no others to pass.
# From the environment:
#   ORIGIN   a page that may talk to it (default: URL itself, which is right where the chat page is on)
#   SITE     its name, sent as X-Sidegate-Site (default: none)
#   HOSTS=1  listen.allowed_hosts is set, so foreign Host headers must be refused
#   STRICT=1 it is in production: HSTS, and no session without a browser's headers
#   VIA      HOST:PORT to connect to instead of the one that URL's name leads to
#   LIMIT    how many session requests may pass before one must be refused (default 70); 0 leaves this check out
set -uo pipefail # no -e: a check that fails is counted

URL=${1:-http://127.0.0.1:8080}
URL=${URL%/}
ORIGIN=${ORIGIN:-$URL}
LIMIT=${LIMIT:-70}
AGENT='Mozilla/5.0 (X11; Linux x86_64) sidegate-check'
TYPE=application/json
((LIMIT <= 70)) || LIMIT=70

case $URL in
http://* | https://*) ;;
*)
    echo "usage: $0 [http://HOST:PORT]" >&2
    exit 2
    ;;
esac
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
: >"$work/all"
via=()
[[ -z ${VIA:-} ]] || via=(--connect-to "::$VIA")
site=()
[[ -z ${SITE:-} ]] || site=(-H "X-Sidegate-Site: $SITE")
passed=0
failed=0

# verdict NAME: one line, by how the command before it ended.
verdict() {
    if (($? == 0)); then
        printf 'ok    %s\n' "$1"
        passed=$((passed + 1))
    else
        printf 'FAIL  %s (status %s)\n' "$1" "$STATUS"
        failed=$((failed + 1))
    fi
}

# ask METHOD PATH [curl's options…]: sets STATUS, and leaves $work/head and $work/body. No origin unless one is given.
ask() {
    local method=$1 path=$2
    shift 2
    rm -f -- "$work/head" "$work/body"
    STATUS=$(curl -q --silent --http1.1 --globoff --path-as-is --max-time 10 --noproxy 127.0.0.1,localhost,::1 \
        --request "$method" --user-agent "$AGENT" --dump-header "$work/head" --output "$work/body" \
        --write-out '%{http_code}' "${via[@]}" "${site[@]}" "$@" "$URL$path")
    [[ -e $work/head ]] || : >"$work/head"
    [[ -e $work/body ]] || : >"$work/body"
    cat "$work/head" "$work/body" >>"$work/all"
}

from_page() { ask "$@" -H "Origin: $ORIGIN"; }

say_hello() { ask POST /v1/messages -H "Origin: $ORIGIN" -H "Content-Type: $TYPE" -H 'Accept: application/json' "$@"; }

status_is() {
    local code
    for code in "$@"; do [[ $STATUS == "$code" ]] && return; done
    return 1
}

# header NAME: its value, or nothing.
header() { sed -n "s/^$1: *//Ip" "$work/head" | tr -d '\r' | head -n 1; }

has() { [[ -n $(header "$1") ]]; }

lacks() { [[ -z $(header "$1") ]]; }

field() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "$work/body" | head -n 1; }

refused() { status_is "$@" && lacks Access-Control-Allow-Origin; }

ask GET /health
if [[ $STATUS == 000 ]]; then
    echo "nothing answers at $URL" >&2
    exit 2
fi
echo "checking $URL as a page of $ORIGIN"

# Headers of every answer
status_is 200 && ! grep -qiE "redis|upstream|breaker|session" "$work/body"
verdict "health says no more than status and version"
for path in /health /no-such-page; do
    ask GET $path
    [[ $(header X-Content-Type-Options) == nosniff ]] && has Content-Security-Policy && has Referrer-Policy &&
        has Permissions-Policy && has X-Frame-Options && has X-Request-Id
    verdict "security headers on $path"
done
status_is 404 && [[ $(header Content-Type) == application/problem+json* ]]
verdict "an unknown path is a 404 problem"
if [[ -n ${STRICT:-} ]]; then
    has Strict-Transport-Security
    verdict "HSTS"
fi

# Origin and host
scheme=${ORIGIN%%://*}
host=${ORIGIN#*://}
name=${host%:*}
for origin in https://evil.example null file:// "$scheme://$name.evil.example" "$scheme://evil$host" "$scheme://$host@evil.example" "$scheme://$name:1"; do
    ask POST /v1/session -H "Origin: $origin"
    refused 403
    verdict "no session for the origin $origin"
done
ask POST /v1/session -H "Origin: $ORIGIN" -H 'Origin: https://evil.example'
status_is 400 403
verdict "no session for two origins"
ask POST /v1/session -H 'Sec-Fetch-Site: cross-site'
status_is 403
verdict "no session for a page that hides its origin"
ask POST /v1/session -H 'Referer: https://evil.example/page'
status_is 403
verdict "no session for a foreign Referer"
if [[ -n ${STRICT:-} ]]; then
    ask POST /v1/session
    status_is 403
    verdict "no session without Origin"
fi
if [[ -n ${HOSTS:-} ]]; then
    ask POST /v1/session -H 'Host: evil.example' -H 'Origin: http://evil.example'
    refused 403
    verdict "no session under a foreign Host"
    ask POST /v1/session -H 'Host: evil.example' -H "Origin: $ORIGIN"
    status_is 403
    verdict "a known page can't come by a foreign Host"
fi

# CORS
ask OPTIONS /v1/messages -H 'Origin: https://evil.example' -H 'Access-Control-Request-Method: POST'
lacks Access-Control-Allow-Origin && status_is 403
verdict "a foreign preflight is refused"
ask OPTIONS /v1/messages -H 'Origin: null' -H 'Access-Control-Request-Method: POST'
lacks Access-Control-Allow-Origin && status_is 403
verdict "a null preflight is refused"
if [[ $ORIGIN != "$URL" ]]; then
    ask OPTIONS /v1/messages -H "Origin: $ORIGIN" -H 'Access-Control-Request-Method: POST'
    status_is 200 204 && [[ $(header Access-Control-Allow-Origin) == "$ORIGIN" ]] && [[ $(header Access-Control-Allow-Methods) == *POST* ]] && ! grep -qi "^Access-Control-Allow-[A-Za-z-]*:.*\*" "$work/head" && [[ $(header Vary) == *Origin* ]]
    verdict "a page's preflight names this page and nothing wider"
fi

# Sessions
from_page POST /v1/session
token=$(field access_token)
refresh=$(field refresh_token)
status_is 200 201 && [[ -n $token && -n $(field session_id) ]]
verdict "a page opens a session"
[[ $(header Cache-Control) == *no-store* ]]
verdict "a session is not cached"
first=$(field session_id)
from_page POST /v1/session -H "Content-Type: $TYPE" --data "{\"session_id\":\"$first\"}"
[[ -n $first && $(field session_id) != "$first" ]]
verdict "a client can't choose its session"
say_hello --data '{"message":"hello"}'
status_is 401
verdict "no message without a token"
say_hello --data '{"message":"hello"}' -H 'Authorization: Bearer made-up'
status_is 401
verdict "no message with a made-up token"
none=$(printf '{"alg":"none","typ":"JWT"}' | base64 | tr -d '=\n').$(cut -d. -f2 -s <<<"$token").
say_hello --data '{"message":"hello"}' -H "Authorization: Bearer $none"
status_is 401
verdict "no message with an unsigned token"
say_hello --data '{"message":"hello"}' -H "Authorization: Bearer ${token%?????}AAAAA"
status_is 401
verdict "no message with a forged signature"
say_hello --data '{"message":"hello"}' -H "Authorization: Bearer $refresh"
status_is 401
verdict "no message with a refresh token"
say_hello --data '{"message":"hello"}' -H "Authorization: Bearer $token" --user-agent 'another browser'
status_is 401
verdict "no message with a token from another browser"
ask POST /v1/messages -H 'Origin: https://evil.example' -H "Content-Type: $TYPE" -H "Authorization: Bearer $token" --data '{"message":"hello"}'
refused 403
verdict "no message from another page, token or not"
say_hello --data '{"message":"hello"}' -H "Authorization: Bearer $token"
status_is 200 202 502 503 504
verdict "a message with the token passes the guard"

# Tickets and WebSockets
upgrade=(-H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==')
from_page POST /v1/session/ticket
status_is 401
verdict "no ticket without a token"
from_page POST /v1/session/ticket -H "Authorization: Bearer $token"
ticket=$(field ticket)
status_is 200 201 && [[ -n $ticket ]]
verdict "a session gets a ticket"
ask GET "/v1/ws?ticket=$ticket" "${upgrade[@]}" -H 'Origin: https://evil.example' --max-time 2
status_is 403
verdict "no WebSocket for a foreign page"
ask GET "/v1/ws?ticket=$ticket" "${upgrade[@]}" -H 'Origin: null' --max-time 2
status_is 403
verdict "no WebSocket for the origin null"
ask GET /v1/ws "${upgrade[@]}" -H "Origin: $ORIGIN" --max-time 2
status_is 401
verdict "no WebSocket without a ticket"
from_page POST /v1/session/ticket -H "Authorization: Bearer $token"
ticket=$(field ticket)
ask GET "/v1/ws?ticket=$ticket" "${upgrade[@]}" -H "Origin: $ORIGIN" --max-time 2
[[ -n $ticket ]] && status_is 101
verdict "a ticket opens a WebSocket"
ask GET "/v1/ws?ticket=$ticket" "${upgrade[@]}" -H "Origin: $ORIGIN" --max-time 2
status_is 401
verdict "a ticket works once"

# Hostile payloads
hostile() { # hostile NAME CODES DATA-FILE [curl's options…]: refused with one of the codes, as a problem
    local name=$1 codes=$2 data=$3
    shift 3
    say_hello -H "Authorization: Bearer $token" -H 'Expect:' --data-binary "@$data" "$@"
    # shellcheck disable=SC2086 # several codes
    status_is $codes && [[ $(header Content-Type) == application/problem+json* ]]
    verdict "$name"
}
repeated() { head -c "$1" /dev/zero | tr '\0' "$2"; }

printf '{"message":' >"$work/sent"
hostile "cut JSON is a 400" 400 "$work/sent"
printf '["message"]' >"$work/sent"
hostile "JSON that is no object is a 400" 400 "$work/sent"
# shellcheck disable=SC2016 # no variable
printf '{"message":{"$ne":null}}' >"$work/sent"
hostile "a message that is no text is a 400" 400 "$work/sent"
{ printf '{"message":' && repeated 20000 '['; } >"$work/sent"
hostile "deeply nested JSON is a 400" 400 "$work/sent"
printf '{"message":"\xff\xfe"}' >"$work/sent"
hostile "bytes that are no UTF-8 are a 400" 400 "$work/sent"
{ printf '{"message":"' && repeated 262144 a && printf '"}'; } >"$work/sent"
hostile "an oversized body is a 413" 413 "$work/sent"
printf '{"message":"hello"}' >"$work/sent"
TYPE=text/plain hostile "text/plain is a 415" 415 "$work/sent"
TYPE=application/x-www-form-urlencoded hostile "a form is a 415" 415 "$work/sent"
hostile "a compressed body is a 415" 415 "$work/sent" -H 'Content-Encoding: gzip'
{ printf 'X-Long: ' && repeated 40000 a; } >"$work/long"
ask GET /health -H "@$work/long"
status_is 400 413 431
verdict "headers of 40 kB are refused"

# Paths and methods
for path in /../../etc/passwd /%2e%2e/%2e%2e/etc/passwd /page/..%2f..%2fconfig.py /page/%2e%2e/%2e%2e/config.py //etc/passwd /.env /.git/config; do
    ask GET "$path"
    status_is 400 403 404 && ! grep -qE "root:|^import " "$work/body"
    verdict "$path is refused"
done
for path in /livez /readyz /metrics /admin /push; do
    ask GET "$path"
    status_is 404
    verdict "$path is not public"
done
ask TRACE /health -H 'X-Probe: echoed-probe'
status_is 400 403 404 405 501 && ! grep -q echoed-probe "$work/body"
verdict "TRACE echoes nothing"
ask GET /v1/messages
status_is 404 405
verdict "messages can't be sent by GET"

# Limits, last: from here on this address is limited
if ((LIMIT > 0)); then
    STATUS=
    for ((sent = 0; sent < LIMIT; sent++)); do
        from_page POST /v1/session
        status_is 429 && break
    done
    status_is 429
    verdict "sessions from one address are limited"
    status_is 429 && [[ $(header Retry-After) =~ ^[1-9][0-9]*$ ]]
    verdict "a 429 says when to come back"
fi

STATUS=any
! grep -qaiE '^(Server|X-Powered-By):' "$work/all"
verdict "no answer names the software behind it"
! grep -qaiE 'traceback|File "|\.py\b|aiohttp|uvloop|node_modules|stack trace' "$work/all"
verdict "no answer holds a traceback, a file name or a library"

echo "test-security: $passed ok, $failed failed"
((failed == 0))
