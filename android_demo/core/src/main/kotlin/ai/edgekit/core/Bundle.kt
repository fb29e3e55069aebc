package ai.edgekit.core

import java.io.File
import java.io.IOException
import java.io.UncheckedIOException
import java.nio.file.Files
import java.nio.file.InvalidPathException
import java.nio.file.LinkOption

/** An opened bundle: every file was the one its manifest names when it was opened. */
public class Bundle private constructor(
    public val folder: File,
    public val manifest: BundleManifest,
    public val tokenizer: Tokenizer,
    public val routing: RoutingSpec,
    public val vocabulary: Vocabulary,
) {
    /** The model file for the target's runtime. */
    public val artifact: File get() = File(folder, manifest.artifact)

    /** Token ids of the rendered [prompt], ready for prefill. */
    public fun encode(prompt: String): IntArray = tokenizer.encode(routing.parts(prompt), routing.delimiters)

    /** The recorded cases. Throws [EdgekitException]. */
    public fun conformance(): List<ConformanceCase> = ConformanceCase.readAll(File(folder, ConformanceCase.FILE))

    public companion object {
        private const val ROUTING = "routing.json"
        private const val TOKENIZER = "tokenizer.json"

        /** What Finder and Explorer leave in folders that they show; nothing reads it, so it does no harm. */
        private val LEFT_BY_SYSTEMS = setOf(".DS_Store", "Thumbs.db", "desktop.ini")

        /**
         * Open the bundle in [folder]: format first, then every file's size and sha256, then its contents.
         *
         * With a [memory] a bundle that was whole, and whose files have the same sizes and times, is not hashed again.
         *
         * Throws [EdgekitException] for anything that is not a whole, unchanged bundle this app can read.
         */
        public fun open(folder: File, memory: CheckMemory? = null): Bundle = try {
            opened(folder, memory)
        } catch (error: IOException) {
            throw unreadable(folder, error)
        } catch (error: UncheckedIOException) {
            throw unreadable(folder, error)
        } catch (error: InvalidPathException) { // a name that this system's files cannot have
            throw unreadable(folder, error)
        }

        private fun unreadable(folder: File, error: Exception) =
            EdgekitException("unreadable bundle: $folder. ${error.message}. Copy it again.", ErrorKind.DAMAGED)

        private fun opened(folder: File, memory: CheckMemory?): Bundle {
            val manifest = BundleManifest.read(folder)
            val faults = faults(folder, manifest, memory)
            if (faults.isNotEmpty()) {
                throw EdgekitException(
                    "damaged bundle: $folder. ${faults.joinToString("; ")}. Copy it again.", ErrorKind.DAMAGED,
                )
            }
            val routing = RoutingSpec.load(File(folder, ROUTING))
            val size = manifest.model.vocabSize
            (routing.marker.tokenIds.flatten() + routing.stopTokenIds).firstOrNull { it >= size }?.let {
                throw EdgekitException(
                    "bad $ROUTING: $folder. Token $it, but the model has $size. Export it again.", ErrorKind.BAD_FIELD,
                )
            }
            val tokenizer = File(folder, TOKENIZER)
            try {
                val file = TokenizerFile.read(tokenizer).also { it.fits(size) }
                return Bundle(folder, manifest, Tokenizer(file), routing, Vocabulary.of(file, routing))
            } catch (error: EdgekitException) {
                throw EdgekitException(
                    "unusable tokenizer: $tokenizer. ${error.message}. Export the bundle again.", error.kind,
                )
            }
        }

        /** Every way in which [folder] differs from its [manifest]; empty if it does not. */
        private fun faults(folder: File, manifest: BundleManifest, memory: CheckMemory?): List<String> {
            val shapes = manifest.files.toSortedMap().mapNotNull { (name, entry) -> shapeFault(folder, name, entry) }
            val isKnown = shapes.isEmpty() && memory?.knows(folder, manifest) == true
            val changed = if (isKnown || shapes.isNotEmpty()) emptyList() else hashFaults(folder, manifest)
            if (shapes.isEmpty() && changed.isEmpty() && !isKnown) memory?.remember(folder, manifest)
            val faults = shapes + changed
            val extra = present(folder).toSortedSet() - manifest.files.keys - BundleManifest.NAME
            val needed = listOf(ROUTING, TOKENIZER, ConformanceCase.FILE).filter { it !in manifest.files }
            val hasArtifact = manifest.files.keys.any {
                it == manifest.artifact || it.startsWith(manifest.artifact + "/")
            }
            return faults + extra.map { "$it is not in the manifest" } +
                (needed + listOf(manifest.artifact).filter { !hasArtifact }).map { "the manifest lacks $it" }
        }

        /** What lies under [folder], by relative path; links are not followed. */
        private fun present(folder: File): List<String> {
            val root = folder.toPath()
            Files.walk(root).use { paths ->
                val found = ArrayList<String>()
                for (path in paths.iterator()) {
                    val isFolder = Files.isDirectory(path, LinkOption.NOFOLLOW_LINKS)
                    val isLeft = path.fileName.toString() in LEFT_BY_SYSTEMS &&
                        Files.isRegularFile(path, LinkOption.NOFOLLOW_LINKS)
                    if (!isFolder && !isLeft) found.add(root.relativize(path).joinToString("/"))
                }
                return found
            }
        }

        private fun hashFaults(folder: File, manifest: BundleManifest): List<String> =
            manifest.files.toSortedMap().mapNotNull { (name, entry) ->
                val isSame = BundleManifest.sha256(File(folder, name)) == entry.sha256
                if (isSame) null else "$name has changed (sha256 differs)"
            }

        /** What is wrong with a file before its content is looked at. */
        private fun shapeFault(folder: File, name: String, entry: FileEntry): String? {
            val file = File(folder, name)
            val withParents = generateSequence(file) { it.parentFile }.takeWhile { it != folder }
            return when {
                withParents.any { Files.isSymbolicLink(it.toPath()) } -> "$name is a link"
                !file.isFile -> "$name is missing"
                file.length() != entry.size -> "$name has ${file.length()} bytes instead of ${entry.size}"
                else -> null
            }
        }
    }
}
