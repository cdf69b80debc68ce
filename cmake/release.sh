#!/usr/bin/env bash
# cmake/release.sh VERSION [--commit] [--check COMMAND] [--archives COMMAND] -- a release, from its version to its tag.
# SPDX-License-Identifier: Apache-2.0
#
#   looks at   VERSION is x.y.z and above every tag; nothing is uncommitted; CHANGELOG.md has entries under
#              "## [VERSION] - unreleased"; README.md asks find_package for x.y
#   writes     the version's macros and inline namespace in core/version.hpp, the version of packaging/vcpkg, the day in
#              CHANGELOG.md
#   runs       the check (.ci/run) and then the archives' command (cmake --workflow --preset package; '' for none),
#              which find the new version in the files and change none that git knows
#   makes      the commit "Release VERSION" and the annotated tag vVERSION; pushing them is left to you
#
# Without --commit nothing is written or run: it says what it would do. What fails is undone: no commit, no tag, the
# files as they were.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() { echo "release.sh: $1" >&2; exit 1; }
usage() { sed -n '2s/^# //p' "$0"; }

version= commit=false check=.ci/run archives='cmake --workflow --preset package'
while (($#)); do
  case $1 in
    --commit) commit=true; shift ;;
    --check) check=${2:?"--check wants a command"}; shift 2 ;;
    --archives) archives=${2?"--archives wants a command"}; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; fail "unknown option '$1'" ;;
    *) [[ -z $version ]] || { usage >&2; fail "one version, not '$version' and '$1'"; }; version=$1; shift ;;
  esac
done
[[ $version =~ ^([0-9]{1,3})\.([0-9]{1,2})\.([0-9]{1,2})$ ]] || { usage >&2; fail "the version is '$version', expected x.y.z"; }
major=$((10#${BASH_REMATCH[1]})) minor=$((10#${BASH_REMATCH[2]})) patch=$((10#${BASH_REMATCH[3]}))
[[ $version == "$major.$minor.$patch" ]] || fail "the version is '$version', expected no leading zeros: $major.$minor.$patch"

header=include/mxfp4/core/version.hpp port=packaging/vcpkg/vcpkg.json
today=$(date -u +%F)
[[ -z $(git status --porcelain) ]] || fail "something is uncommitted: commit or remove it first"
git symbolic-ref --quiet HEAD >/dev/null || fail "no branch is checked out: the commit and its tag would lie on none"
last=$(git tag --list 'v*' | sed -nE 's/^v([0-9]+\.[0-9]+\.[0-9]+)$/\1/p' | sort -V | tail -1)
if [[ -n $last ]]; then
  [[ $(printf '%s\n%s\n' "$last" "$version" | sort -V | tail -1) == "$version" && $last != "$version" ]] ||
    fail "the version is $version, expected one above the last tag, v$last"
fi
grep -qxF "## [$version] - unreleased" CHANGELOG.md || fail "CHANGELOG.md has no line '## [$version] - unreleased'"
entries=$(awk -v head="## [$version] - unreleased" '$0 == head { inside = 1; next } /^## / { inside = 0 } inside && /^- /' CHANGELOG.md | wc -l)
((entries > 0)) || fail "CHANGELOG.md says nothing of $version"
grep -qE "find_package\(mxfp4 $major\.$minor[ .)]" README.md || fail "README.md does not say find_package(mxfp4 $major.$minor ...)"

# Before 1.0 each minor version may differ, afterwards each major one.
namespace=v$major
((major > 0)) || namespace=v0_$minor

if ! $commit; then
  echo "would write $header: $major.$minor.$patch, namespace $namespace"
  echo "would write $port: $version"
  echo "would write CHANGELOG.md: ## [$version] - $today, $entries entries"
  echo "would run: $check"
  [[ -z $archives ]] || echo "would run: $archives"
  echo "would make the commit 'Release $version' and the tag v$version"
  exit
fi

restore() { git checkout --quiet HEAD -- "$header" "$port" CHANGELOG.md; echo 'release.sh: nothing was released, the files are as they were' >&2; }
trap restore EXIT
sed -i -E "s/^(#define MXFP4_VERSION_MAJOR) [0-9]+/\1 $major/; s/^(#define MXFP4_VERSION_MINOR) [0-9]+/\1 $minor/
           s/^(#define MXFP4_VERSION_PATCH) [0-9]+/\1 $patch/; s/^(#define MXFP4_VERSION_NS) v[0-9_]+/\1 $namespace/" "$header"
for line in "MAJOR $major" "MINOR $minor" "PATCH $patch" "NS $namespace"; do
  grep -qE "^#define MXFP4_VERSION_$line( |$)" "$header" || fail "$header has no line '#define MXFP4_VERSION_$line'"
done
sed -i -E "s/^(  \"version\": )\"[0-9.]+\"/\1\"$version\"/" "$port"
grep -qF "  \"version\": \"$version\"" "$port" || fail "$port has no line '  \"version\": ...'"
sed -i "s/^## \[$version\] - unreleased$/## [$version] - $today/" CHANGELOG.md
written=$(git status --porcelain)
bash -c "$check" || fail "the check failed: $check"
[[ -z $archives ]] || bash -c "$archives" || fail "the archives failed: $archives"
[[ $(git status --porcelain) == "$written" ]] || fail "the check or the archives left files behind: $(git status --porcelain)"
git commit --quiet -m "Release $version" -- "$header" "$port" CHANGELOG.md || fail "git made no commit"
trap - EXIT
git tag --annotate "v$version" -m "mxfp4 $version" ||
  { git reset --quiet --hard HEAD^; fail "git made no tag: the commit is taken back, the files are as they were"; }
echo "released $version: git push --follow-tags"
