#!/usr/bin/env bash
# Fetches the real libraries that the adapters and the app call, where packages of PyPI, npm and Debian carry them, into
# .tools/libraries: what is there already is kept.
#   onnxruntime/     ONNX Runtime's Java classes and JNI library 1.17.0, out of pyserini's source package (164 MB, once)
#   executorch.jar   ExecuTorch's Android classes as react-native-executorch 0.9.3 carries them (38 MB, once)
#   android.jar      Android's declarations of API level 23, out of Debian 11's libandroid-23-java (14 MB, once)
# Usage: libraries-on-host.sh
# Exit codes: 0 all are there; 1 a package is not the one it was; 77 it cannot run here, the last line says why.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
. "$here/kotlin-on-host.sh"
libraries=$tools/libraries
python=${PYTHON:-$here/../.venv/bin/python}
mkdir -p "$libraries"
work=$(mktemp -d "$libraries/fetching-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

fetch_onnxruntime() {
  case $(uname -sm) in
  "Linux x86_64") native=linux-x64 ;;
  "Linux aarch64") native=linux-aarch64 ;;
  *) cannot "no ONNX Runtime for Java for $(uname -sm). Use Linux." ;;
  esac
  command -v jar >/dev/null || cannot "jar not found. Install a JDK 17 or newer."
  echo "pyserini==1.6.0 --hash=sha256:e34761d700b33613c26bc61113effc6d65598dee6ada28a33214f79350f833f4" >wanted.txt
  "$python" -m pip download --quiet --no-deps --no-binary :all: --require-hashes -r wanted.txt ||
    cannot "pip could not fetch pyserini 1.6.0. Connect to a network once."
  fat=pyserini-1.6.0/pyserini/resources/jars/anserini-1.7.1-fatjar.jar
  tar xzf pyserini-1.6.0.tar.gz "$fat"
  mkdir onnxruntime
  (cd onnxruntime && jar tf "../$fat" | grep -E "^ai/onnxruntime/(.*\.class|native/$native/libonnxruntime4j_jni\.so)$" |
    xargs jar xf "../$fat")
  mv onnxruntime/ai/onnxruntime/native/*/* onnxruntime/
  rm -r onnxruntime/ai/onnxruntime/native
  mv onnxruntime "$libraries/"
}

fetch_executorch() {
  command -v npm >/dev/null || cannot "npm not found. Install Node.js."
  npm pack --silent react-native-executorch@0.9.3 >/dev/null ||
    cannot "npm could not fetch react-native-executorch 0.9.3. Connect to a network once."
  tar xzf react-native-executorch-0.9.3.tgz package/android/libs/classes.jar
  echo "d6b63816ac0831759ee79835ee1546191551bc0b58ac8f85396b8a6d121320b1  package/android/libs/classes.jar" | sha256sum --check --quiet || exit 1
  mv package/android/libs/classes.jar "$libraries/executorch.jar"
}

# Debian 11's list is read apart from the machine's own, from the same archive, and nothing is installed.
fetch_android() {
  command -v apt-get >/dev/null || cannot "apt-get not found. Copy any android.jar to $libraries."
  mkdir -p lists/partial cache/archives/partial
  archive=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $(. /etc/os-release && echo "$VERSION_CODENAME")" | sort -u | head -n1)
  echo "deb $archive bullseye main" >sources.list
  apart=(apt-get -qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
    -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
  { "${apart[@]}" update && "${apart[@]}" download libandroid-23-java; } ||
    cannot "apt-get could not fetch libandroid-23-java. Connect to a network once."
  dpkg-deb -x libandroid-23-java_*.deb .
  mv usr/share/java/com.android.android-23.jar "$libraries/android.jar"
}

[ -d "$libraries/onnxruntime" ] || fetch_onnxruntime
[ -f "$libraries/executorch.jar" ] || fetch_executorch
[ -f "$libraries/android.jar" ] || fetch_android
