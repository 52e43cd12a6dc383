#!/usr/bin/env bash
# Installs what the build needs on Debian 12, and only what is missing; silent when all is there.
set -euo pipefail

packages=(
  g++ cmake ninja-build ccache pkg-config python3
  libabsl-dev libtbb-dev libfmt-dev liburing-dev libhwloc-dev libxxhash-dev
  libpcre2-dev libcli11-dev libtomlplusplus-dev nlohmann-json3-dev
  libgtest-dev libgmock-dev libbenchmark-dev
)
# The fuzz targets are built with clang, the tree is checked with its tools, the report is opened in
# a browser.
if [[ "${1:-}" == "--all" ]]; then
  packages+=(clang-14 libclang-rt-14-dev clang-format clang-tidy chromium fonts-dejavu-core)
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ "$status" == installed ]] || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

as_root=()
if [[ $EUID -ne 0 ]]; then
  command -v sudo >/dev/null || {
    echo "install_deps: missing: ${missing[*]}" >&2
    echo "  likely: this user may not install packages, and there is no sudo" >&2
    echo "  try: as root: apt-get install ${missing[*]}" >&2
    exit 1
  }
  as_root=(sudo)
fi
echo "install_deps: installing ${missing[*]}" >&2
"${as_root[@]}" apt-get update -qq >&2
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
