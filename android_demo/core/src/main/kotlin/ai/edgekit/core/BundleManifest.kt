package ai.edgekit.core

import java.io.File
import java.io.IOException
import java.security.MessageDigest

/** One file's content, pinned. */
public data class FileEntry(val sha256: String, val size: Long)

/** What a runtime must know of the model, and what it needs of memory; bundles made early lack the latter. */
public data class ModelFacts(
    val vocabSize: Int,
    val layers: Int,
    val hiddenSize: Int,
    val parameters: Long,
    val contextLength: Int,
    val prefillChunk: Int,
    val intermediateSize: Int?,
    val attentionHeads: Int?,
    val keyValueHeads: Int?,
    val headDim: Int?,
) {
    public companion object {
        private const val WIDTH = 1 shl 24
        private const val COUNT = 1 shl 16

        internal fun of(fields: JsonFields): ModelFacts {
            fields.flagOrNull("tied_embeddings")
            return ModelFacts(
                fields.count("vocab_size", WIDTH), fields.count("layers", COUNT), fields.count("hidden_size", WIDTH),
                fields.whole("parameters", 1L..LARGEST), fields.count("context_length", WIDTH),
                fields.count("prefill_chunk", WIDTH), fields.countOrNull("intermediate_size", WIDTH),
                fields.countOrNull("attention_heads", COUNT), fields.countOrNull("key_value_heads", COUNT),
                fields.countOrNull("head_dim", WIDTH),
            )
        }
    }
}

/** Files and models are smaller than this. */
private const val LARGEST = 1L shl 48

/** A size that a stranger's numbers come to, which 64 bits may not hold: there it is more than any device has. */
internal fun claimedBytes(size: Double): Long = minOf(size, 1e18).toLong()

/** A runtime and its version; in a manifest [oldest] is the oldest that runs the artifact, null if it is not known. */
public data class RuntimeFacts(val name: String, val version: String, val oldest: String? = null) {
    /** Refuse [running] if it lies before [oldest] by its first two numbers; one that does not tell is taken. */
    public fun check(running: RuntimeFacts) {
        val (needed, has) = listOf(oldest ?: return, running.version).map(::numbers)
        if (needed == null || has == null || compareValuesBy(has, needed, { it.first }, { it.second }) >= 0) return
        val why = "It has ${running.name} ${running.version}, the bundle needs $oldest or newer"
        throw EdgekitException("runtime too old: this app. $why. Update the app.", ErrorKind.UNSUPPORTED)
    }

    private fun numbers(version: String): Pair<Int, Int>? {
        val found = NUMBERS.find(version) ?: return null
        return found.groupValues[1].toInt() to (found.groupValues[2].toIntOrNull() ?: 0)
    }

    private companion object {
        val NUMBERS = Regex("^(\\d{1,6})(?:\\.(\\d{1,6}))?")
    }
}

/** manifest.json: what a bundle is, what it was made from, and the hash of every file in it. */
public data class BundleManifest(
    val target: String,
    val artifact: String,
    val precision: String,
    val recipeName: String,
    /** Bytes of a number in its caches of keys and values. */
    val cachedBytes: Int,
    val model: ModelFacts,
    val runtime: RuntimeFacts,
    val files: Map<String, FileEntry>,
    val sha256: String,
) {
    public companion object {
        public const val NAME: String = "manifest.json"
        private const val FORMAT = "edgekit-bundle"
        private const val VERSION = 1L
        private val TARGETS = setOf("onnx", "executorch", "coreml")
        private val HASH = Regex("[0-9a-f]{64}")

        /** Read a bundle's manifest. Throws [EdgekitException]: absent, newer, or wrong. */
        public fun read(folder: File): BundleManifest {
            val file = File(folder, NAME)
            if (!file.isFile) throw EdgekitException("not a bundle: $folder. It has no $NAME.", ErrorKind.ABSENT)
            try {
                return of(file.upTo(FileLimits.DOCUMENT).inputStream().use(Json::parse), sha256(file))
            } catch (error: IOException) {
                val why = "${error.message}. Copy it again."
                throw EdgekitException("unreadable manifest: $file. $why", ErrorKind.DAMAGED)
            } catch (error: EdgekitException) {
                throw EdgekitException(
                    when (error.kind) {
                        ErrorKind.WRONG_FORMAT -> "not a bundle: $folder. In $NAME ${error.message}. Check the path."
                        ErrorKind.NEWER -> "newer bundle: $folder. Its ${error.message}. Update the app."
                        ErrorKind.NOT_JSON, ErrorKind.DAMAGED -> "unreadable manifest: $file. ${error.message}"
                        else -> "bad manifest: $file. ${error.message}. Export the bundle again."
                    },
                    error.kind,
                )
            }
        }

        private fun of(value: Any?, sha256: String): BundleManifest {
            if ((value as? Map<*, *>)?.get("format") != FORMAT) {
                throw EdgekitException("format: not $FORMAT", ErrorKind.WRONG_FORMAT)
            }
            val fields = JsonFields.of(value)
            fields.refuseNewer(VERSION)
            fields.whole("version", 1..VERSION)
            val target = fields.text("target")
            if (target !in TARGETS) fault("target: $target is not known here")
            fields.fields("provenance").run { names.forEach(::text) }
            val runtime = fields.fields("runtime")
            val recipe = fields.fields("recipe").members
            val files = fields.fields("files")
            val manifest = BundleManifest(
                target,
                fields.text("artifact"),
                fields.text("precision"),
                recipe["name"] as? String ?: "",
                cachedBytes(recipe),
                ModelFacts.of(fields.fields("model")),
                RuntimeFacts(runtime.text("name"), runtime.text("version"), runtime.textOrNull("oldest")),
                files.names.associateWith { entry(files.fields(it), it) },
                sha256,
            )
            (manifest.files.keys + manifest.artifact).firstOrNull { !isInside(it) }?.let {
                fault("it names files outside the bundle: ${Json.write(it)}")
            }
            return manifest
        }

        private fun cachedBytes(recipe: Map<*, *>) = when {
            (recipe["quantize"] as? Map<*, *>)?.get("cache") == "int8" -> Byte.SIZE_BYTES
            recipe["compute"] == "float16" -> Short.SIZE_BYTES
            else -> Float.SIZE_BYTES
        }

        private fun entry(fields: JsonFields, name: String): FileEntry {
            val entry = FileEntry(fields.text("sha256"), fields.whole("size", 0L..LARGEST))
            if (!HASH.matches(entry.sha256)) fault("files.$name.sha256: not 64 hexadecimal digits")
            return entry
        }

        private fun fault(what: String): Nothing = throw EdgekitException(what, ErrorKind.BAD_FIELD)

        /** True for a plain relative path that stays in its folder, written the one normal way. */
        public fun isInside(name: String): Boolean {
            val parts = name.split('/')
            val isPlain = parts.all { it.isNotEmpty() && it != "." && it != ".." }
            return isPlain && '\\' !in name && '\u0000' !in name && ':' !in parts[0]
        }

        /** The sha256 of [file] in hexadecimal, read in pieces. */
        public fun sha256(file: File): String {
            val digest = MessageDigest.getInstance("SHA-256")
            file.inputStream().use { stream ->
                val buffer = ByteArray(1 shl 16)
                while (true) {
                    val count = stream.read(buffer)
                    if (count < 0) break
                    digest.update(buffer, 0, count)
                }
            }
            return hexadecimal(digest.digest())
        }
    }
}
