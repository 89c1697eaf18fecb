#!/bin/sh
# Installs what building and running ai-cache lacks; does nothing when everything is there.
# usage: scripts/setup.sh run|test|check
set -eu

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        fail "root is needed to install packages: run as root: $*"
    fi
}

# Whether the folder $1 holds Postgres 15 or newer.
postgres_in() {
    [ -x "$1/postgres" ] && [ -x "$1/initdb" ] || return 1
    major=$("$1/postgres" --version 2>/dev/null | sed 's/^[^0-9]*\([0-9]*\).*/\1/')
    [ "${major:-0}" -ge 15 ]
}

have_postgres() {
    for folder in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin \
        /usr/local/opt/postgresql*/bin /home/linuxbrew/.linuxbrew/opt/postgresql*/bin; do
        postgres_in "$folder" && return 0
    done
    program=$(command -v postgres) || return 1
    postgres_in "$(dirname "$program")"
}

have_redis() {
    have redis-server || have valkey-server
}

install_apt() {
    echo "setup: installing what is missing with apt-get"
    as_root apt-get update -qq
    packages=
    have cc || packages="$packages gcc libc6-dev"
    have_redis || packages="$packages redis-server"
    # Older releases have no rustup package; prepare_rust says what to do then.
    have cargo || packages="$packages $(apt-cache search --names-only '^rustup$' | cut -d' ' -f1)"
    if ! have_postgres; then
        packages="$packages postgresql"
        # No cluster of the distribution's own: we only want the programs.
        as_root mkdir -p /etc/postgresql-common/createcluster.d
        echo 'create_main_cluster = false' |
            as_root tee /etc/postgresql-common/createcluster.d/ai-cache.conf >/dev/null
    fi
    # shellcheck disable=SC2086 # a list of names
    set -- $packages
    [ "$#" -gt 0 ] || return 0
    # The packages' own services are not started now.
    without_starting_services as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@"
}

without_starting_services() {
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        "$@" </dev/null
        return
    fi
    trap 'as_root rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod 755 "$policy"
    "$@" </dev/null
    as_root rm -f "$policy"
    trap - EXIT INT TERM
}

install_dnf() {
    packages=
    have cc || packages="$packages gcc"
    have_redis || packages="$packages valkey"
    have cargo || packages="$packages rustup"
    have_postgres || packages="$packages postgresql-server"
    [ -n "$packages" ] || return 0
    printf 'setup: installing%s\n' "$packages"
    # shellcheck disable=SC2086 # a list of names
    as_root dnf install -y -q $packages </dev/null
}

install_brew() {
    have_redis || brew install redis
    have cargo || brew install rustup
    have_postgres || brew install postgresql@17
    have cc || fail "a C compiler is missing: xcode-select --install"
}

install_packages() {
    if have_postgres && have_redis && have cc && have cargo; then
        return 0
    elif have apt-get; then
        install_apt
    elif have dnf; then
        install_dnf
    elif have brew; then
        install_brew
    fi
    have_postgres || fail "Postgres 15 or newer is missing: install its server programs (postgres, initdb)"
    have_redis || echo "setup: no redis-server or valkey-server: ai-cache runs without its warm tier"
    have cc || fail "a C compiler is missing: install gcc or clang as cc"
}

# The version Cargo.toml asks for.
needed_rust() {
    sed -n 's/^rust-version = "1\.\([0-9]*\).*/\1/p' Cargo.toml
}

prepare_rust() {
    if ! have cargo && have rustup-init; then
        rustup-init -y --profile minimal --no-modify-path </dev/null
    fi
    if have rustup && ! cargo --version >/dev/null 2>&1; then
        rustup default stable
    fi
    have cargo || fail "Rust is missing: install it as https://rustup.rs says, then run this again"
    minor=$(rustc --version | sed 's/^rustc 1\.\([0-9]*\).*/\1/')
    [ "$minor" -ge "$(needed_rust)" ] ||
        fail "Rust 1.$(needed_rust) or newer is needed, this is 1.$minor: rustup update stable"
}

prepare_rust_checks() {
    for component in rustfmt clippy; do
        if ! "cargo-${component#rust}" --version >/dev/null 2>&1; then
            have rustup || fail "cargo-${component#rust} is missing: install the package $component"
            rustup component add "$component"
        fi
    done
}

prepare_long_checks() {
    have cargo-deny || cargo install --locked cargo-deny
    have cargo-machete || cargo install --locked cargo-machete
    have cargo-sqlx || cargo install --locked sqlx-cli --no-default-features --features postgres,rustls
}

cd "$(dirname "$0")/.."
# Neither a bare environment nor one without the folders of the system's own tools stops it.
HOME=${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}
export HOME
PATH=$PATH:/usr/sbin:/sbin:$HOME/.cargo/bin:/opt/homebrew/opt/rustup/bin:/usr/local/opt/rustup/bin
mode=${1:-}
case $mode in
    run | test | check) ;;
    *) fail "usage: scripts/setup.sh run|test|check" ;;
esac
install_packages
prepare_rust
[ "$mode" = run ] || prepare_rust_checks
[ "$mode" = run ] || have openssl || fail "openssl is missing: the tests make certificates with it"
[ "$mode" = check ] && prepare_long_checks
exit 0
