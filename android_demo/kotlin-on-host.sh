# Sourced by the scripts that compile Kotlin here: the compiler from npm, this machine's Java.

tools=$here/.tools
compiler=$tools/node_modules/kotlin-compiler
version=2.4.20
coroutines=$compiler/lib/kotlinx-coroutines-core-jvm.jar
app=$here/app/src/main/kotlin/ai/edgekit/demo
strings=$here/app/src/main/res/values/strings.xml

# cannot WHY: ends with 77.
cannot() {
  echo "cannot run here: $1"
  exit 77
}

# compile NAME MORE_CLASSES [-FLAG] SOURCE...: sets jar to NAME-HASH.jar, compiled unless these sources were already.
# NAME-????????????????.jar are older ones of it: core-tests is not core.
compile() {
  local name=$1 more=$2 stamp flag=
  shift 2
  case $1 in -*) flag=$1 && shift ;; esac
  command -v java >/dev/null || cannot "java not found. Install a JDK 17 or newer."
  if [ ! -x "$compiler/bin/kotlinc" ]; then
    command -v npm >/dev/null || cannot "npm not found. Install Node.js, whose npm brings the Kotlin compiler."
    echo "fetching kotlin-compiler $version with npm (94 MB, once)"
    npm install --no-audit --no-fund --no-save --silent --prefix "$tools" "kotlin-compiler@$version" ||
      cannot "npm could not fetch kotlin-compiler $version. Connect to a network once."
  fi
  stamp=$({ echo "$more $flag"; find "$@" -name '*.kt' -print0 | sort -z | xargs -0 cat; } | sha256sum | cut -c1-16)
  jar=$tools/$name-$stamp.jar
  if [ ! -f "$jar" ]; then
    rm -f "$tools/$name"-????????????????.jar
    "$compiler/bin/kotlinc" -J-Xmx1g -J-XX:+UseSerialGC -J-XX:TieredStopAtLevel=1 -Werror -jvm-target 17 $flag \
      ${more:+-cp "$more"} -d "$tools/compiling-$$.jar" "$@" || exit 1
    mv "$tools/compiling-$$.jar" "$jar"
  fi
}

# make_resources: sets made to a folder with what Gradle would write for the app: its resources by number, BuildConfig.
make_resources() {
  made=$tools/made
  mkdir -p "$made"
  {
    echo "package ai.edgekit.demo"
    echo "object R { object string {"
    sed -n 's/.*<string name="\([a-z_]*\)".*/\1/p' "$strings" | awk '{print "    const val " $1 " = " NR - 1}'
    echo "} }"
    echo 'object BuildConfig { const val APPLICATION_ID = "ai.edgekit.demo"; const val VERSION_NAME = "preview" }'
  } >"$made/making-$$"
  mv "$made/making-$$" "$made/R.kt"
}
