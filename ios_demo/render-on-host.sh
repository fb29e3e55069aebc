#!/usr/bin/env bash
# Compiles the app's own screens, model and settings over stand-ins for Apple's modules (Preview/), runs them on Linux.
# Usage: render-on-host.sh BUNDLE RECORDING STEPS OUT
#   RECORDING  the folder of recording.json and recording.f32; STEPS as SwiftUI/Host.swift takes them; OUT gets what
#   they draw. Preview/draw.py makes all of these, and the picture. Without arguments it only compiles.
# Exit codes: 0 done; 1 it does not compile, or a step is not possible; 77 it cannot run here, the last line says why.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=${EDGEKIT_SWIFT_ROOT:-/opt/swift-trixie}

cannot() {
  echo "cannot render the screens: $1"
  exit 77
}

[ "$(uname)" = Linux ] || cannot "Apple's own modules are here. Open the project in Xcode."
if command -v swift >/dev/null; then
  root=
elif [ ! -e "$root/usr/libexec/swift/bin/swift-frontend" ]; then
  cannot "no swift. Install Swift 6 (swift.org), or on Debian as root run test-on-host.sh --install."
elif [ "$(id -u)" != 0 ]; then
  cannot "no swift on PATH, and the one in $root needs root."
fi

# The build folder is kept between runs; the sources are this checkout's each time.
# Each checkout has its own, so that two may be drawn at once.
inside=/var/tmp/edgekit-preview-$(printf %s "$here" | cksum | cut -d' ' -f1)
work=$root$inside
mkdir -p "$work"
exec 9>"$work/lock"
flock 9
demo=$work/ios_demo
rm -rf "$demo"/{Sources,Tests,Preview/Sources} "$work"/{home,in,out}
mkdir -p "$demo"/{Sources,Tests/EdgeCoreTests,Preview} "$work"/{home/Documents/Bundles,in,out}
cp -p "$here/../Package.swift" "$work/"
cp -rp "$here/Sources/EdgeCore" "$demo/Sources/"
cp -rp "$here/Preview/Package.swift" "$here/Preview/Sources" "$demo/Preview/"
cp -p "$here"/App/*.swift "$demo/Preview/Sources/EdgekitDemo/"
touch "$demo/Tests/EdgeCoreTests/None.swift"

run() {
  if [ -z "$root" ]; then
    "$@"
  else
    # /proc and /dev are lent to the folder for this one process, and gone with it.
    unshare --mount sh -c 'mount --bind /proc "$0/proc" && mount --bind /dev "$0/dev" && exec chroot "$0" "$@"' \
      "$root" "$@"
  fi
}

# Debian's libswiftObservation names a function of the runtime that is not exported; only its last words need it.
run swift build --package-path "$inside/ios_demo/Preview" --quiet -Xlinker --allow-shlib-undefined 1>&2
[ $# -eq 4 ] || exit 0
cp -rL "$1" "$work/home/Documents/Bundles/"
cp "$2"/recording.* "$work/in/"
run env HOME="$inside/home" EDGEKIT_RECORDING="$inside/in" \
  sh -c 'cd "$1" && exec ../ios_demo/Preview/.build/debug/EdgekitDemo' sh "$inside/out" <"$3"
mkdir -p "$4"
cp "$work"/out/* "$4/"
