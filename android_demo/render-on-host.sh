#!/usr/bin/env bash
# Compiles the app's screens against preview/'s stand-in for Compose and Android, uses them, and draws what they showed.
# Usage: render-on-host.sh BUNDLE OUT [PNG]: leaves OUT/screens.html, and has Chromium draw PNG from it.
# Exit codes: 0 drawn; 1 the screens do not compile or do not show what they should; 2 no readable bundle; 77 it cannot run here.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/kotlin-on-host.sh"
python=${PYTHON:-$here/../.venv/bin/python}
[ -x "$python" ] || cannot "$python not found. Run make demo first, or set PYTHON."

# Apart, as Gradle does: the app sees no internals.
compile core "$coroutines" -Xexplicit-api=strict "$here/core/src/main/kotlin"
core=$jar

# All but the one source that needs Android's Keystore.
shopt -s extglob
make_resources
compile preview "$core:$coroutines" "$app"/!(KeyVault).kt "$made" "$here/preview"

"$python" "$here/preview/render.py" "$1" "$2" \
  java -Xmx512m -XX:+UseSerialGC "-Dstrings=$strings" -cp "$jar:$core:$coroutines:$compiler/lib/kotlin-stdlib.jar" ai.edgekit.preview.PreviewKt

if [ $# -gt 2 ]; then
  command -v chromium >/dev/null || cannot "chromium not found. Install it, or open $2/screens.html in a browser."
  chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --force-device-scale-factor=1 \
    --window-size=1448,632 --screenshot="$3" "$2/screens.html" 2>/dev/null
fi
