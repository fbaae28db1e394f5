#!/usr/bin/env bash
# Tries the committed tree as a newcomer on a fresh Debian: `make demo`, the unit and store tests, and
# the client alone, all as an ordinary user. Needs root and debootstrap; leaves nothing behind.
#
# Usage: tools/fresh_debian.sh RELEASE      such as trixie or sid
set -euo pipefail
cd "$(dirname "$0")/.."

release=$1
system=$(mktemp -d)
chmod 755 "$system"
mounted=()

# shellcheck disable=SC2317 # reached through the trap
clean_up() {
    local code=$? folder
    for folder in "${mounted[@]}"; do umount -R "$folder" || code=1; done
    # What is still mounted belongs to this machine.
    mountpoint -q "$system/proc" || mountpoint -q "$system/dev" || rm -rf "$system"
    exit "$code"
}
trap clean_up EXIT

# inside USER SCRIPT: runs a script in the fresh system.
inside() {
    chroot "$system" /usr/bin/env -i HOME=/srv/newcomer \
        PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin LANG=C.UTF-8 USER="$1" \
        "${network[@]}" setpriv --reuid="$1" --regid="$1" --init-groups bash -euo pipefail -c "$2"
}

# Where this machine looks for packages and whom it trusts: a fresh one would be set up likewise.
network=()
while IFS='=' read -r name value; do
    case $name in
        PIP_* | SSL_CERT_FILE | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE | *_proxy | *_PROXY)
            network+=("$name=$value") ;;
    esac
done < <(env)

debootstrap --variant=minbase --include=ca-certificates,git,make,openssl,python3,python3-venv \
    "$release" "$system" >"$system.log" 2>&1 || { tail -n 20 "$system.log"; exit 1; }
rm -f "$system.log"
cp -L /etc/resolv.conf "$system/etc/resolv.conf"
cp -L /etc/hosts "$system/etc/hosts"
for file in /etc/ssl/certs/ca-certificates.crt /etc/pip.conf \
    "${SSL_CERT_FILE:-}" "${PIP_CERT:-}" "${REQUESTS_CA_BUNDLE:-}" "${CURL_CA_BUNDLE:-}"; do
    if [[ -f $file ]]; then install -D -m 0644 "$file" "$system$file"; fi
done
for folder in proc dev; do
    mount --rbind --make-rslave "/$folder" "$system/$folder"
    mounted=("$system/$folder" "${mounted[@]}")
done

inside root "useradd --create-home --home-dir /srv/newcomer newcomer"
git clone -q --no-hardlinks . "$system/srv/newcomer/tallymesh"
inside root "chown -R newcomer: /srv/newcomer"

inside newcomer '
    python3 --version
    cd ~/tallymesh
    make demo
    make test ARGS="tests/unit tests/store"
    python3 -m venv ~/client
    ~/client/bin/pip install -q ./clients/python
    .venv/bin/python -m tools.try_client ~/client/bin
'
