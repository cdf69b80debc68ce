#!/usr/bin/env bash
# cmake/setup.sh [--with bench,cross,interop,train] -- provides what the presets need; twice is once.
# SPDX-License-Identifier: Apache-2.0
#
#   wanted --- installed, or unpacked here before? ------------------------------------> done
#     |
#     +--- recent enough in the configured suites, and root or sudo: apt-get install --> the system
#     +--- else from the backports or (headers only) a newer suite: dpkg -x -----------> build/deps
#     +--- else: says so; CMake fetches the library itself, pinned by hash
#
# Newer suites are the configured entry with another suite name, read with lists of our own: mirror, keyring and
# options are those of this system, whose own sources and packages stay as they are.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
deps=$PWD/build/deps

# kind     name            least    packages: the first one carries the version
#   must     a command without which nothing can be built; asked for only when it is missing; needs root
#   tool     a command that some presets use; likewise
#   packages no command to look for; needs root. In a group that was asked for: group
#   headers  may come from any newer suite, because nothing in it is compiled
#   library  compiled: from this release or its backports only, a newer release's would want a newer libc
#   foreign  the same for another processor, named after the first package: into build/deps/<processor>
wanted='
must     g++             12       g++
must     cmake           3.25     cmake
must     ninja           1.10     ninja-build
must     git             2        git
tool     python3         3.9      python3
tool     clang++         14       clang
tool     clang-format-16 16       clang-format-16
tool     clang-tidy      14       clang-tidy
tool     qemu-x86_64     -        qemu-user
tool     doxygen         1.9.4    doxygen
tool     mkdocs          1.4      mkdocs python3-lunr
packages clang-runtime   -        libclang-rt-dev
packages plots           -        python3-matplotlib python3-numpy
packages Oniguruma       -        libonig-dev
headers  xsimd           13.2     libxsimd-dev
headers  xtl             0.7      xtl-dev
headers  nlohmann-json   3.11     nlohmann-json3-dev
headers  CLI11           2.3      libcli11-dev
headers  xxHash          0.8      libxxhash-dev
headers  Eigen           3.4      libeigen3-dev
library  Catch2          3.7      libcatch2-dev
library  oneTBB          2021.5   libtbb-dev libtbb12 libtbbmalloc2 libtbbbind-2-5
library  RE2             2020     libre2-dev libre2-9
library  GoogleBenchmark 1.7      libbenchmark-dev libbenchmark1debian'
declare -A group=(
  [bench]='
group    OpenBLAS        -        libopenblas-dev'
  [cross]='
group    aarch64         -        g++-aarch64-linux-gnu
group    s390x           -        g++-s390x-linux-gnu
group    qemu            -        qemu-user
foreign  Catch2-arm64    3.7      libcatch2-dev:arm64
foreign  Catch2-s390x    3.7      libcatch2-dev:s390x
foreign  oneTBB-arm64    2021.5   libtbb-dev:arm64 libtbb12 libtbbmalloc2 libtbbbind-2-5
foreign  oneTBB-s390x    2021.5   libtbb-dev:s390x libtbb12 libtbbmalloc2 libtbbbind-2-5
foreign  RE2-arm64       2020     libre2-dev:arm64 libre2-9
foreign  RE2-s390x       2020     libre2-dev:s390x libre2-9'
  [interop]='
group    venv            -        python3-venv
group    OpenMPI         -        libopenmpi-dev openmpi-bin'
  [train]='
group    PyTorch         -        python3-torch
group    text            -        bible-kjv'
)

usage() { sed -n '2s/^# //p' "$0"; }
groups=
while (($#)); do
  case $1 in
    --with) groups=${2:?"--with wants a list of bench, cross, interop, train"}; shift 2 ;;
    --with=*) groups=${1#*=}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "setup.sh: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
  esac
done
for name in ${groups//,/ }; do
  if [[ -z ${group[$name]:-} ]]; then
    echo "setup.sh: unknown group '$name', expected bench, cross, interop or train" >&2
    exit 2
  fi
  wanted+=${group[$name]}
done

# ---- what is there -------------------------------------------------------------------------------------------------

at_least() { [[ -n $1 ]] && { [[ $2 == - ]] || printf '%s\n%s\n' "$2" "$1" | sort -VC; }; }   # VERSION LEAST

tool_version() { { command -v "$1" >/dev/null && "$1" --version 2>/dev/null; } | grep -oEm1 '[0-9]+(\.[0-9]+)+' | head -1 || true; }

declare -A version origin   # of a package that is here
find_packages() {
  local package found status
  version=() origin=()
  while read -r package found status; do
    if [[ $status == installed ]]; then version[$package]=${found#*:} origin[$package]=system; fi
  done < <(dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n' 2>/dev/null || true)
  while read -r package found status; do
    version[$package]=$found origin[$package]="build/deps, from $status"
  done < <(cat "$deps/packages" 2>/dev/null || true)
}

is_here() {   # KIND NAME LEAST PACKAGES
  local package
  case $1 in
    must | tool) at_least "$(tool_version "$2")" "$3" ;;
    headers | library | foreign) at_least "${version[${4%% *}]:-}" "$3" ;;
    *) for package in $4; do [[ -n ${version[$package]:-} ]] || return; done ;;
  esac
}

missing=()
find_missing() {
  local kind name least packages
  find_packages
  missing=()
  while read -r kind name least packages; do
    [[ -z $kind ]] || is_here "$kind" "$name" "$least" "$packages" || missing+=("$kind $name $least $packages")
  done <<<"$wanted"
}

report() {   # false where something is missing that was asked for
  local kind name least packages package found from complete=true
  while read -r kind name least packages; do
    [[ -n $kind ]] || continue
    package=${packages%% *}
    if is_here "$kind" "$name" "$least" "$packages"; then
      case $kind in
        must | tool) found=$(tool_version "$name") from=$(command -v "$name") ;;
        *) found=${version[$package]} from=${origin[$package]} ;;
      esac
    else
      case $kind in
        headers | library | foreign) found='not found' from="no suite has $package >= $least: CMake will fetch it, pinned by hash" ;;
        *) found=MISSING from="call this as root, or ask for: apt-get install $packages" ;;
      esac
      [[ ! $kind =~ ^(must|group)$ ]] || complete=false
    fi
    printf '  %-16s %-20s %s\n' "$name" "$found" "$from"
  done <<<"$wanted"
  $complete
}

find_missing
if ((${#missing[@]} == 0)); then report; echo 'setup: everything was here'; exit; fi
if ! command -v apt-get >/dev/null; then report; exit; fi   # another distribution: the table says what to install

# ---- the ordinary way ----------------------------------------------------------------------------------------------

as_root=(false)
if (($(id -u) == 0)); then as_root=(env); elif sudo -n true 2>/dev/null; then as_root=(sudo -n env); fi

apt_root() { "${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@"; }
candidate() { apt-cache policy "$1" 2>/dev/null | sed -nE 's/^  Candidate: ([0-9]+:)?([^(].*)$/\2/p'; }

# Installs what the configured suites have recent enough. --no-remove: never at the cost of something that is there.
install_ordinary() {
  local line kind name least packages package install=()
  for line in "${missing[@]}"; do
    read -r kind name least packages <<<"$line"
    [[ $kind != foreign ]] && at_least "$(candidate "${packages%% *}")" "$least" || continue
    for package in $packages; do [[ -z $(candidate "$package") ]] || install+=("$package"); done
  done
  ((${#install[@]} == 0)) || apt_root install -y --no-remove --no-install-recommends "${install[@]}" </dev/null >/dev/null
}

if [[ ${as_root[0]} != false ]]; then
  # No index yet, or one that names files the mirror has replaced since: read it again, once.
  if [[ -z $(candidate g++) ]] || ! install_ordinary; then
    apt_root update && install_ordinary || echo 'setup: apt-get install failed, see above; trying to go on' >&2
  fi
  find_missing
fi

# ---- from another suite, into build/deps ---------------------------------------------------------------------------

# shellcheck source=/dev/null
. /etc/os-release
codename=${VERSION_CODENAME:-}
case $codename in   # the releases that follow, nearest first
  bookworm) newer='trixie forky' ;;
  trixie) newer=forky ;;
  *) newer= ;;
esac
[[ ${ID:-} != debian ]] || newer+=' testing unstable'

# The configured entries of this release (component main), with the suite replaced; both kinds of source file.
sources_for() {   # SUITE FOLDER
  local here="($codename|stable|oldstable)"
  cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
    sed -nE "s/^(deb[[:space:]].*[[:space:]])$here([[:space:]]+(.*[[:space:]])?main([[:space:]].*)?)$/\1$1\3/p" >"$2/suite.list"
  for file in /etc/apt/sources.list.d/*.sources; do [[ ! -r $file ]] || { cat "$file"; echo; }; done |
    awk -v here="[ \t]${here}[ \t]" -v suite="$1" 'BEGIN { RS = ""; ORS = "\n\n" }
      {
        ours = components = 0
        stanza = ""
        lines = split($0, line, "\n")
        for (i = 1; i <= lines; ++i) {
          text = line[i] " "
          if (text ~ /^Enabled:[ \t]*no/) next
          if (text ~ /^Components:.*[ \t]main[ \t]/) components = 1
          if (text ~ /^Types:/) line[i] = "Types: deb"
          if (text ~ /^Suites:/) { ours = text ~ here; line[i] = "Suites: " suite }
          stanza = stanza line[i] "\n"
        }
        if (ours && components) print stanza
      }' >"$2/suite.sources"
}

# apt with sources, lists and cache of our own.
apt_in() {   # SUITE[:PROCESSOR] PROGRAM ARGUMENT...
  local folder=$deps/apt/$1 processor=()
  [[ $1 != *:* ]] || processor=(-o "APT::Architecture=${1#*:}" -o "APT::Architectures=${1#*:}")
  "$2" "${processor[@]}" -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$folder/sources" -o Dir::State::Lists="$folder/lists" \
    -o Dir::Cache="$folder/cache" -o APT::Sandbox::User="$(id -un)" "${@:3}"
}

open_suite() {   # SUITE[:PROCESSOR]; reads its index the first time
  local folder=$deps/apt/$1
  [[ ! -d $folder ]] || return 0
  mkdir -p "$folder"/{sources,lists/partial,cache/archives/partial}
  sources_for "${1%:*}" "$folder/sources"
  apt_in "$1" apt-get -qq update >/dev/null 2>&1 || true   # a mirror need not carry every suite
}

unpack_from() {   # SUITE LEAST PACKAGES; false where the suite has no such version
  local suite=$1 least=$2 packages=$3 package found processor= into=$deps
  if [[ ${packages%% *} == *:* ]]; then
    processor=${packages%% *} processor=:${processor#*:} packages=${packages/$processor/}
    suite+=$processor into+=/${processor#:}
    mkdir -p "$into"
  fi
  open_suite "$suite"
  found=$(apt_in "$suite" apt-cache madison "${packages%% *}" 2>/dev/null | awk 'NR == 1 { print $3 }')
  at_least "${found#*:}" "$least" || return 1
  local debs=$deps/apt/$suite/debs
  rm -rf "$debs" && mkdir -p "$debs"
  for package in $packages; do   # after the first, only what this suite happens to split off
    (cd "$debs" && apt_in "$suite" apt-get -qq download "$package" >/dev/null 2>&1) || [[ $package != "${packages%% *}" ]] || return 1
  done
  for package in "$debs"/*.deb; do
    dpkg -x "$package" "$into"
    found=$(dpkg-deb --field "$package" Version)
    echo "$(dpkg-deb --field "$package" Package)$processor ${found#*:} ${suite%:*}" >>"$deps/packages"
  done
}

for line in "${missing[@]}"; do
  read -r kind name least packages <<<"$line"
  case $kind in
    headers) suites="$codename $codename-backports $newer" ;;
    library | foreign) suites="$codename $codename-backports" ;;
    *) continue ;;
  esac
  found=$(candidate "${packages%%[ :]*}")
  [[ -z $found ]] || at_least "$found" "$least" || suites=${suites#"$codename "}   # known to be too old there
  for suite in $suites; do
    if unpack_from "$suite" "$least" "$packages"; then break; fi
  done
done
rm -rf "$deps/apt"   # the indexes are large and soon stale

find_missing
report && echo 'setup: ready'
