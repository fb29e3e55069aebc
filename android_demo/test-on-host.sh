#!/usr/bin/env bash
# Compiles core/ and its tests with the Kotlin compiler from npm and runs them on this machine's Java.
# Usage: test-on-host.sh [FOLDER_WITH_MORE_CASES...]
#        test-on-host.sh --load TOKENIZER_JSON   opens one within 150 MB of heap, and says what that took
# Exit codes: 0 all held; 1 a test failed or the core does not compile; 77 it cannot run here, the last line says why.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/kotlin-on-host.sh"
compile core-tests "$compiler/lib/kotlin-test.jar:$coroutines" "$here/core/src/main/kotlin" "$here/core/src/test/kotlin"

run() {
  java "$1" -XX:+UseSerialGC -cp "$jar:$compiler/lib/kotlin-stdlib.jar:$compiler/lib/kotlin-test.jar:$coroutines" \
    ai.edgekit.core.TestMainKt "${@:2}"
}
if [ "${1:-}" = --load ]; then
  run -Xmx150m "$@"
else
  run -Xmx512m "$here/.." "$@"
fi
