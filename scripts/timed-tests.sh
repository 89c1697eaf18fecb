#!/bin/sh
# Runs the test program $1 with the arguments behind it, twice as many tests at a time as there are
# processors: many of them wait. Then prints the thirty slowest, and the closing line once more.
set -u
log=$(mktemp "${TMPDIR:-/tmp}/ai-cache-times.XXXXXX")
trap 'rm -f "$log"' EXIT
program=$1
shift
threads=$(($(getconf _NPROCESSORS_ONLN) * 2))
# libtest tells times only when it is allowed what is not stable yet.
{
    RUSTC_BOOTSTRAP=1 "$program" --test-threads "$threads" -Z unstable-options --report-time "$@"
    echo $? >"$log.code"
} | tee "$log"
code=$(cat "$log.code")
rm -f "$log.code"
echo "the thirty slowest tests, in seconds:"
sed -n 's/^test \(.*\) \.\.\. [a-zA-Z]* <\([0-9.]*\)s>$/\2 \1/p' "$log" | sort -rn | head -30
grep '^test result' "$log"
exit "$code"
