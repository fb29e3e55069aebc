#!/usr/bin/env bash
# Compiles the runtime adapters against the real libraries and the app against Android's own declarations, those of
# androidx being preview's stand-ins, and runs the ONNX adapter on this machine's Java and the ONNX Runtime of $PYTHON.
# Usage: adapters-on-host.sh OUT BUNDLE...   or   adapters-on-host.sh --decode COUNT BUNDLE   (host/RunOnnx.kt)
# Exit codes: 0 it ran; 1 something does not compile; 77 it cannot run here, the last line says why.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/kotlin-on-host.sh"
libraries=$tools/libraries
python=${PYTHON:-$here/../.venv/bin/python}
for library in onnxruntime executorch.jar android.jar; do
  [ -e "$libraries/$library" ] || cannot "$library is not in $libraries. Run android_demo/libraries-on-host.sh once."
done
command -v cc >/dev/null || cannot "cc not found. Install a C compiler."
runtime=$("$python" -c 'import onnxruntime as o, pathlib as p; print(*p.Path(o.__file__).parent.glob("capi/libonnxruntime.so.1.*"))') || true
[ -f "$runtime" ] || cannot "onnxruntime not found for $python. Run make demo first, or set PYTHON."

compile core "$coroutines" -Xexplicit-api=strict "$here/core/src/main/kotlin"
core=$jar:$coroutines
compile adapters "$core:$libraries/onnxruntime:$libraries/executorch.jar" -Xexplicit-api=strict \
  "$here/onnxruntime/src/main/kotlin" "$here/executorch/src/main/kotlin" "$here/host"
adapters=$jar

make_resources
compile app "$core:$adapters:$libraries/android.jar" "$app" "$made" "$here/preview/View.kt" \
  "$here"/preview/standin/{activity,compose,lifecycle}*.kt

ln -sf "$runtime" "$libraries/onnxruntime/libonnxruntime.so.1"
(
  cd "$libraries/onnxruntime"
  ln -sf libonnxruntime.so libonnxruntime.so.1.17.0
  cc -shared -fPIC -O1 -Wl,-soname,libonnxruntime.so.1.17.0,-rpath,"\$ORIGIN",--version-script=/dev/stdin \
    -o libonnxruntime.so "$here/host/onnxruntime_1_17.c" -Wl,--no-as-needed ./libonnxruntime.so.1 -ldl \
    <<<'VERS_1.17.0 { global: Ort*; local: *; };'
)
java -Xmx16m -XX:MaxDirectMemorySize=1m -XX:+UseSerialGC "-Donnxruntime.native.path=$libraries/onnxruntime" \
  -cp "$adapters:$core:$libraries/onnxruntime:$compiler/lib/kotlin-stdlib.jar" ai.edgekit.host.RunOnnxKt "$@"
