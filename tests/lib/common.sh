# What the shell scripts of tests and examples share. Sourced, not run.

LIB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# As in lib/paths.py.
if [ -n "${ROWCAST_TEST_CACHE:-}" ]; then
    CACHE=$ROWCAST_TEST_CACHE
elif [ "$(id -u)" = 0 ]; then
    CACHE=/var/cache/rowcast-tests
else
    CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/rowcast-tests
fi

JAVA_PACKAGES="java=openjdk-17-jre-headless mvn=maven"

say() { echo "${WHO:-${0##*/}}: $*" >&2; }
die() { say "$*" && exit 1; }

# Runs a command; shows its output only when it fails.
quietly() {
    local log rc=0
    log=$(mktemp)
    "$@" </dev/null >"$log" 2>&1 || rc=$?
    [ $rc = 0 ] || cat "$log" >&2
    rm -f "$log"
    [ $rc = 0 ] || die "failed with exit code $rc: $*"
}
