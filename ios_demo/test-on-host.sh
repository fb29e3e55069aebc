#!/usr/bin/env bash
# Compiles EdgeCore, runs its tests and parses the app's sources with the Swift toolchain of this machine, or of a Debian 13 folder.
# Usage: [EDGEKIT_CASES=FOLDER] test-on-host.sh [--install] [SWIFT TEST ARGUMENTS...]
#   FOLDER      holds more cases, with the tokenizers they name beside them.
#   --install  make that folder: Debian's own swiftlang (6.0) under $EDGEKIT_SWIFT_ROOT; needs root, debootstrap, 3 GB.
# Exit codes: 0 all held; 1 a test failed or EdgeCore does not compile; 77 it cannot run here, the last line says why.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=${EDGEKIT_SWIFT_ROOT:-/opt/swift-trixie}

cannot() {
  echo "cannot test the Swift core: $1"
  exit 77
}

install_toolchain() {
  command -v debootstrap >/dev/null || cannot "debootstrap not found. Run apt-get install debootstrap."
  debootstrap --variant=minbase trixie "$root" http://deb.debian.org/debian
  cp /etc/resolv.conf /etc/hosts "$root/etc/"
  chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    swiftlang libc6-dev libstdc++-14-dev git ca-certificates
}

if [ "${1:-}" = --install ]; then
  shift
  install_toolchain
fi
if command -v swift >/dev/null; then
  swiftc -frontend -parse -swift-version 6 "$here"/App/*.swift "$here"/Sources/Edge{CoreML,ONNX,ExecuTorch}/*.swift
  exec swift test --package-path "$here/.." "$@"
fi
[ -e "$root/usr/libexec/swift/bin/swift-frontend" ] ||
  cannot "no swift. Install Xcode 16 or Swift 6 (swift.org), or on Debian as root run $0 --install."
[ "$(id -u)" = 0 ] || cannot "no swift on PATH, and the one in $root needs root."

# The tests find the shared cases from their own place, so the copy keeps the repository's shape.
# Each checkout has its own, so that two may be tested at once.
inner=/edgekit/$(printf %s "$here" | cksum | cut -d' ' -f1)
copy=$root$inner
mkdir -p "$copy/ios_demo" "$copy/tests" "$copy/edgekit/policy" "$copy/out"
rm -rf "$copy"/ios_demo/{App,Sources,Tests}
mkdir "$copy/ios_demo/App"
cp "$here"/App/*.swift "$copy/ios_demo/App/"
cp -r "$here/Sources" "$here/Tests" "$copy/ios_demo/"
cp "$here/../Package.swift" "$copy/"
cp -rT "$here/../tests/conformance" "$copy/tests/conformance"
cp -rT "$here/../edgekit/policy/base" "$copy/edgekit/policy/base"
rm -rf "$copy"/out/*
for made in conformance demo/onnx demo/executorch demo/coreml; do
  if [ -d "$here/../out/$made" ]; then
    mkdir -p "$copy/out/$made"
    cp -rT "$here/../out/$made" "$copy/out/$made"
  fi
done
if [ -n "${EDGEKIT_CASES:-}" ]; then
  rm -rf "$copy/more_cases"
  cp -r "$EDGEKIT_CASES" "$copy/more_cases"
  export EDGEKIT_CASES=$inner/more_cases
fi
# /proc and /dev are lent to the folder for this one process, and gone with it.
inside='mount --bind /proc "$0/proc" && mount --bind /dev "$0/dev" && exec chroot "$0" "$@"'
unshare --mount sh -c "$inside" "$root" \
  sh -c "cd $inner/ios_demo && swiftc -frontend -parse -swift-version 6 App/*.swift Sources/Edge[!C]*/*.swift Sources/EdgeCoreML/*.swift"
exec unshare --mount sh -c "$inside" "$root" swift test --package-path "$inner" "$@"
