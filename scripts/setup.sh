#!/bin/sh
# Installs what is missing of scripts/packages.txt (Debian, Ubuntu; root or sudo), then builds into build/ (release). Used by
# quickstart and check; does nothing that is already done.
set -eu
cd "$(dirname "$0")/.."

missing=
for package in $(sed 's/#.*//' scripts/packages.txt); do
    state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
    [ "$state" = "ii " ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
    sudo=
    if [ "$(id -u)" != 0 ]; then
        sudo=sudo
        command -v sudo >/dev/null || { echo "setup: missing packages:$missing; install them as root (apt-get install)" >&2; exit 1; }
    fi
    echo "setup: installing$missing"
    $sudo apt-get update -qq
    # shellcheck disable=SC2086
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

if [ ! -f build/build.ninja ]; then
    meson setup build >/dev/null || { cat build/meson-logs/meson-log.txt >&2; exit 1; }
fi
echo "setup: building"
ninja -C build >build/ninja.log 2>&1 || { tail -40 build/ninja.log >&2; exit 1; }
