#!/usr/bin/env bash
# Installs what the tests need and runs all of them. Ends with 0 only if every step passed.
#
#   tests/run.sh            everything
#   tests/run.sh quick      the Rust tests alone
#
# Needs Rust 1.91 or later with clippy and rustfmt, a C compiler and make (for aws-lc and jemalloc), Python 3.10 or later, and Node 20 or
# later with npm and Chromium for the browser's part. The link emulator's tests need Linux, root, /dev/net/tun and iproute2.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n== %s (after %d s)\n' "$1" "$SECONDS"; }
need() {
  command -v "$1" >/dev/null 2>&1 && return
  if [ -n "${2:-}" ] && command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    apt-get update -qq && apt-get install -y -qq "$2" >/dev/null
    command -v "$1" >/dev/null 2>&1 && return
  fi
  echo "tests/run.sh: $1 is missing. Install ${3:-the package $2} and run this again." >&2
  exit 2
}

need cargo "" "Rust (rustup.rs)"
need cc gcc "a C compiler (Debian: gcc)"
need make make
need python3 python3 "Python 3 (Debian: python3)"

if [ "${1:-all}" != quick ]; then
  say "format"
  cargo fmt --all --check

  say "lints: clippy, every feature alone, documentation"
  cargo clippy --quiet --locked --all-targets --all-features -- -D warnings
  for features in "" server client server,http client,test-util,server; do
    echo "features: ${features:-none}"
    cargo clippy --quiet --locked --all-targets --no-default-features --features "$features" -- -D warnings
  done
  if cargo tree --quiet --locked --no-default-features --edges normal | grep -E '(tokio|quinn|rustls) v'; then
    echo "tests/run.sh: wire alone must pull neither tokio nor quinn" >&2
    exit 1
  fi
  RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --no-deps --all-features

  say "golden vectors are those of PROTOCOL.md"
  python3 tests/vectors/generate.py --check
fi

say "Rust tests"
cargo test --locked --all-features

if [ "${1:-all}" != quick ]; then
  # What these crates of their own have in common with the first is built once.
  target=$(cargo metadata --format-version 1 --no-deps --locked | python3 -c 'import json,sys; print(json.load(sys.stdin)["target_directory"])')
  export CARGO_TARGET_DIR="$target" CARGO_PROFILE_DEV_DEBUG=line-tables-only
  say "the link emulator (needs root and /dev/net/tun)"
  need ip iproute2
  cargo fmt --manifest-path tools/link/Cargo.toml --check
  cargo clippy --quiet --locked --manifest-path tools/link/Cargo.toml --all-targets -- -D warnings
  cargo test --locked --manifest-path tools/link/Cargo.toml

  say "the load of the head-of-line benchmark"
  cargo fmt --manifest-path benches/loss/load/Cargo.toml --check
  cargo clippy --quiet --locked --manifest-path benches/loss/load/Cargo.toml --all-targets -- -D warnings
  cargo test --quiet --locked --manifest-path benches/loss/load/Cargo.toml

  say "a crowd that loses its server (a smoke run of the recovery benchmark)"
  cargo fmt --manifest-path benches/recovery/load/Cargo.toml --check
  cargo clippy --quiet --locked --manifest-path benches/recovery/load/Cargo.toml --all-targets -- -D warnings
  cargo test --quiet --locked --manifest-path benches/recovery/load/Cargo.toml
  cargo build --quiet --locked --bin tidings
  cargo build --quiet --locked --manifest-path benches/recovery/load/Cargo.toml
  smoke=$(mktemp -d)
  benches/recovery/run --tidings "$target/debug/tidings" --load "$target/debug/recovery-load" --clients 20 --channels 4 --repeats 1 \
    --only cut --only "cut, WebTransport" --only "killed, PING after 1 s" --only "killed, PING after 1 s, WebTransport" --out "$smoke"
  rm -r "$smoke"

  say "interoperability: an independent client, and generated clients of the HTTP API"
  venv=tests/interop/.venv
  if ! [ -x "$venv/bin/pytest" ] || ! cmp -s tests/interop/requirements.txt "$venv/requirements.txt"; then
    rm -rf "$venv"
    if ! python3 -m venv "$venv" 2>/dev/null; then
      rm -rf "$venv"
      if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
        apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
      fi
      python3 -m venv "$venv" || { echo "tests/run.sh: python3 -m venv fails. Install python3-venv." >&2; exit 2; }
    fi
    "$venv/bin/pip" install --quiet -r tests/interop/requirements.txt
    cp tests/interop/requirements.txt "$venv/requirements.txt"
  fi
  need node nodejs "Node 20 or later (Debian: nodejs)"
  need npm npm "npm (Debian: npm)"
  cargo build --quiet --locked
  TIDINGS_BIN="$target/debug/tidings" "$venv/bin/pytest" -q tests/interop

  say "the browser SDK and the pages"
  need chromium chromium "Chromium (Debian: chromium)"
  (cd web && npm ci --no-audit --no-fund --loglevel=error && npm test && TIDINGS_BIN="$target/debug/tidings" npm run test:browser)

  say "the comparison with floors and peers (a smoke run; needs root)"
  cargo fmt --manifest-path benches/compare/Cargo.toml --check
  cargo clippy --quiet --locked --manifest-path benches/compare/Cargo.toml --all-targets -- -D warnings
  cargo test --quiet --locked --manifest-path benches/compare/Cargo.toml
  for module in test_compare test_peers; do (cd benches/compare && python3 -m unittest "$module"); done
fi

say "all passed"
