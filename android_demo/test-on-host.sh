#!/usr/bin/env bash
# Compiles core/ and its tests with the Kotlin compiler from npm and runs them on this machine's Java.
# Usage: test-on-host.sh [FOLDER_WITH_MORE_CASES...]
# Exit codes: 0 all held; 1 a test failed or the core does not compile; 77 it cannot run here, the last line says why.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
tools=$here/.tools
compiler=$tools/node_modules/kotlin-compiler
version=2.4.20

cannot() {
  echo "cannot test the Kotlin core: $1"
  exit 77
}

command -v java >/dev/null || cannot "java not found. Install a JDK 17 or newer."
if [ ! -x "$compiler/bin/kotlinc" ]; then
  command -v npm >/dev/null || cannot "npm not found. Install Node.js, whose npm brings the Kotlin compiler."
  echo "fetching kotlin-compiler $version with npm (94 MB, once)"
  npm install --no-audit --no-fund --no-save --silent --prefix "$tools" "kotlin-compiler@$version" ||
    cannot "npm could not fetch kotlin-compiler $version. Connect to a network once."
fi

sources=("$here/core/src/main/kotlin" "$here/core/src/test/kotlin")
stamp=$(find "${sources[@]}" -name '*.kt' -print0 | sort -z | xargs -0 cat | sha256sum | cut -c1-16)
jar=$tools/core-tests-$stamp.jar
if [ ! -f "$jar" ]; then
  rm -f "$tools"/core-tests-*.jar
  "$compiler/bin/kotlinc" -J-Xmx1g -J-XX:+UseSerialGC -J-XX:TieredStopAtLevel=1 -Werror -jvm-target 17 \
    -cp "$compiler/lib/kotlin-test.jar" -d "$tools/compiling-$$.jar" "${sources[@]}" || exit 1
  mv "$tools/compiling-$$.jar" "$jar"
fi

exec java -Xmx512m -XX:+UseSerialGC -cp "$jar:$compiler/lib/kotlin-stdlib.jar:$compiler/lib/kotlin-test.jar" \
  ai.edgekit.core.TestMainKt "$here/.." "$@"
