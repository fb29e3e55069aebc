package ai.edgekit.core

import java.io.File
import java.io.IOException
import java.security.MessageDigest

/** One file's content, pinned. */
data class FileEntry(val sha256: String, val size: Long)

/** What a runtime must know of the model. */
data class ModelFacts(val vocabSize: Int, val contextLength: Int, val parameters: Long)

/** A runtime and its version. */
data class RuntimeFacts(val name: String, val version: String)

/** manifest.json: what a bundle is, what it was made from, and the hash of every file in it. */
data class BundleManifest(
    val target: String,
    val artifact: String,
    val precision: String,
    val recipeName: String,
    val model: ModelFacts,
    val runtime: RuntimeFacts,
    val files: Map<String, FileEntry>,
    val sha256: String,
) {
    companion object {
        const val NAME = "manifest.json"
        private const val FORMAT = "edgekit-bundle"
        private const val VERSION = 1L
        private val TARGETS = setOf("onnx", "executorch", "coreml")
        private val HASH = Regex("[0-9a-f]{64}")

        /** Read a bundle's manifest. Throws [BundleException]: absent, newer, or wrong. */
        fun read(folder: File): BundleManifest {
            val file = File(folder, NAME)
            if (!file.isFile) {
                throw BundleException("not a bundle: $folder. It has no $NAME. Check the path.")
            }
            val fields = try {
                JsonFields.of(Json.parse(file.readText()))
            } catch (error: IOException) {
                throw BundleException("unreadable manifest: $file. ${error.message}. Export the bundle again.")
            } catch (error: EdgekitException) {
                throw BundleException("unreadable manifest: $file. ${error.message}. Export the bundle again.")
            }
            if (fields.members["format"] != FORMAT) {
                throw BundleException("not a bundle: $folder. $NAME is not an $FORMAT. Check the path.")
            }
            val manifest = try {
                val version = fields.whole("version")
                if (version > VERSION) {
                    throw BundleException(
                        "newer bundle: $folder. Format $version, known up to $VERSION. Update the app.",
                    )
                }
                of(fields, sha256(file))
            } catch (error: BundleException) {
                throw error
            } catch (error: EdgekitException) {
                throw BundleException("bad manifest: $file. ${error.message}. Export the bundle again.")
            }
            (manifest.files.keys + manifest.artifact).firstOrNull { !isInside(it) }?.let {
                throw BundleException("bad manifest: $file. It names files outside the bundle: '$it'. Do not use it.")
            }
            return manifest
        }

        private fun of(fields: JsonFields, sha256: String): BundleManifest {
            val target = fields.text("target")
            if (target !in TARGETS) throw EdgekitException("target: $target is not known here")
            val model = fields.fields("model")
            val runtime = fields.fields("runtime")
            val files = fields.fields("files")
            return BundleManifest(
                target,
                fields.text("artifact"),
                fields.text("precision"),
                fields.fields("recipe").textOrNull("name") ?: "",
                ModelFacts(model.positive("vocab_size"), model.positive("context_length"), model.whole("parameters")),
                RuntimeFacts(runtime.text("name"), runtime.text("version")),
                files.names.associateWith { entry(files.fields(it), it) },
                sha256,
            )
        }

        private fun entry(fields: JsonFields, name: String): FileEntry {
            val entry = FileEntry(fields.text("sha256"), fields.whole("size"))
            if (!HASH.matches(entry.sha256) || entry.size < 0) throw EdgekitException("files.$name: bad hash or size")
            return entry
        }

        /** True for a plain relative path that stays in its folder, written the one normal way. */
        fun isInside(name: String): Boolean {
            val parts = name.split('/')
            val isPlain = parts.all { it.isNotEmpty() && it != "." && it != ".." }
            return isPlain && '\\' !in name && '\u0000' !in name && ':' !in parts[0]
        }

        /** The sha256 of [file] in hexadecimal, read in pieces. */
        fun sha256(file: File): String {
            val digest = MessageDigest.getInstance("SHA-256")
            file.inputStream().use { stream ->
                val buffer = ByteArray(1 shl 16)
                while (true) {
                    val count = stream.read(buffer)
                    if (count < 0) break
                    digest.update(buffer, 0, count)
                }
            }
            return digest.digest().joinToString("") { "%02x".format(it) }
        }
    }
}
