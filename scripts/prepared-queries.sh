#!/bin/sh
# Compares the checked-in query descriptions (.sqlx) with a fresh, migrated, embedded Postgres.
set -eu
cd "$(dirname "$0")/.."
program=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/debug/ai-cache
AI_CACHE_DATA_DIR=$(mktemp -d /tmp/ai-cache-queries.XXXXXX)
AI_CACHE_BIND=127.0.0.1:0
export AI_CACHE_DATA_DIR AI_CACHE_BIND
chmod 711 "$AI_CACHE_DATA_DIR"
service=
finish() {
    if [ -n "$service" ]; then
        kill "$service" 2>/dev/null || true
        wait "$service" || true
    fi
    rm -rf "$AI_CACHE_DATA_DIR"
}
trap finish EXIT
trap 'exit 130' INT TERM

"$program" migrate
"$program" serve >/dev/null 2>&1 &
service=$!
socket=$AI_CACHE_DATA_DIR/postgres/run
until [ -S "$socket/.s.PGSQL.5432" ]; do
    kill -0 "$service" || exit 1
    sleep 0.1
done
host=$(printf '%s' "$socket" | sed 's,/,%2F,g')
DATABASE_URL="postgres://ai_cache_owner@$host:5432/ai_cache?sslmode=disable" \
    cargo sqlx prepare --check -- --all-targets
