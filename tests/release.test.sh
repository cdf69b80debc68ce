#!/usr/bin/env bash
# tests/release.test.sh SOURCE -- cmake/release.sh in a repository of its own: what it refuses, tries, undoes and makes.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
source=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export HOME=$work GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.com

mkdir -p repository/cmake repository/include/mxfp4/core repository/packaging/vcpkg && cd repository
sed -E 's/^(  "version": ).*/\1"0.1.0",/' "$source/packaging/vcpkg/vcpkg.json" >packaging/vcpkg/vcpkg.json
cp "$source/cmake/release.sh" cmake/
sed -E 's/^(#define MXFP4_VERSION_NS) .*/\1 v0_1/; s/^(#define MXFP4_VERSION_(MAJOR|PATCH)) [0-9]+/\1 0/
        s/^(#define MXFP4_VERSION_MINOR) [0-9]+/\1 1/' "$source/include/mxfp4/core/version.hpp" >include/mxfp4/core/version.hpp
printf '# Changelog\n\n## [0.2.0] - unreleased\n\n### Added\n- A thing.\n\n## [0.1.0] - 2026-11-01\n- The first.\n' >CHANGELOG.md
echo 'Ask find_package(mxfp4 0.2) for it, or find_package(mxfp4 1.0).' >README.md
git init --quiet . && git add -A && git commit --quiet -m 'before' && git tag v0.1.0
before=$(git rev-parse HEAD)

refused() {   # SENTENCE ARGUMENT...
  local sentence=$1 said
  shift
  if said=$(cmake/release.sh "$@" 2>&1); then echo "accepted: release.sh $*"; exit 1; fi
  grep -qF -- "$sentence" <<<"$said" || { echo "release.sh $*: said '$said', expected '$sentence'"; exit 1; }
  [[ $(git rev-parse HEAD) == "$before" && -z $(git status --porcelain) && $(git tag) == v0.1.0 ]] ||
    { echo "release.sh $* left something behind"; git status; exit 1; }
}

refused "expected x.y.z"
refused "expected x.y.z" 0.2
refused "leading zeros" 0.02.0
refused "unknown option '--force'" 0.2.0 --force
refused "above the last tag, v0.1.0" 0.1.0
refused "above the last tag, v0.1.0" 0.0.9
refused "no line '## [0.3.0] - unreleased'" 0.3.0
refused "the check failed: false" 0.2.0 --commit --check false
refused "the archives failed" 0.2.0 --commit --check true --archives false
if said=$(cmake/release.sh 0.2.0 --commit --check 'echo more >README.md' --archives '' 2>&1); then echo 'accepted: a check that writes'; exit 1; fi
grep -qF ' M README.md' <<<"$said" || { echo "a check that writes: said '$said'"; exit 1; }
git checkout --quiet README.md

said=$(cmake/release.sh 0.2.0 --archives pack)   # a dry run: everything is said, nothing is done
for line in 'version.hpp: 0.2.0, namespace v0_2' '1 entries' 'would run: .ci/run' 'would run: pack' 'the tag v0.2.0'; do
  grep -qF -- "$line" <<<"$said" || { echo "a dry run said '$said', expected '$line'"; exit 1; }
done
[[ $(git rev-parse HEAD) == "$before" && -z $(git status --porcelain) && $(git tag) == v0.1.0 ]] || { echo 'a dry run wrote'; exit 1; }

echo more >>README.md
if cmake/release.sh 0.2.0 >/dev/null 2>&1; then echo 'accepted: something uncommitted'; exit 1; fi
git checkout --quiet README.md

printf '#!/bin/sh\nexit 1\n' >.git/hooks/pre-commit && chmod +x .git/hooks/pre-commit
refused "git made no commit" 0.2.0 --commit --check true --archives ''
rm .git/hooks/pre-commit
git config tag.gpgSign true && git config gpg.program false
refused "git made no tag" 0.2.0 --commit --check true --archives ''
git config --unset tag.gpgSign
git tag vendor && git tag v0.2.0-rc1   # no releases
git checkout --quiet --detach
if said=$(cmake/release.sh 0.2.0 2>&1); then echo 'accepted: no branch'; exit 1; fi
grep -qF 'no branch is checked out' <<<"$said" || { echo "no branch: said '$said'"; exit 1; }
git checkout --quiet -
sed -i 's/0\.2)/0.25)/' README.md && git commit --quiet -am 'another version'
if cmake/release.sh 0.2.0 >/dev/null 2>&1; then echo 'accepted: find_package(mxfp4 0.25'; exit 1; fi
git reset --quiet --hard HEAD^

cmake/release.sh 0.2.0 --commit --check 'grep -q "MINOR 2" include/mxfp4/core/version.hpp' --archives "grep -h '\"version\"' packaging/vcpkg/vcpkg.json >$work/archives" >/dev/null
[[ $(git tag) == $'v0.1.0\nv0.2.0\nv0.2.0-rc1\nvendor' && $(git cat-file -t v0.2.0) == tag ]] || { echo 'no annotated tag'; exit 1; }
[[ $(git log -1 --format=%s) == 'Release 0.2.0' && -z $(git status --porcelain) ]] || { echo 'no commit'; exit 1; }
grep -qE '^## \[0\.2\.0\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$' CHANGELOG.md || { echo 'CHANGELOG.md has no day'; exit 1; }
grep -qE '^#define MXFP4_VERSION_NS v0_2$' include/mxfp4/core/version.hpp || { echo 'the namespace stayed'; exit 1; }
grep -qxF '  "version": "0.2.0",' packaging/vcpkg/vcpkg.json || { echo 'the port has the old version'; exit 1; }
[[ $(cat "$work/archives") == '  "version": "0.2.0",' ]] || { echo 'the archives were not made'; exit 1; }
echo 'release.sh does what it says'
