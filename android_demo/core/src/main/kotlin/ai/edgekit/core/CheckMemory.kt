package ai.edgekit.core

import java.io.File
import java.io.IOException
import java.nio.file.Files
import java.security.MessageDigest

/**
 * Which bundles were found whole, so that a large one is hashed once and not at every start.
 *
 * Kept in [file], in the app's own storage: for each folder the manifest's hash with the size and time of change of
 * every file. A file changed in the last seconds is not vouched for: it might change again within its time's unit.
 */
public class CheckMemory(private val file: File) {
    /** Whether the bundle in [folder] was found whole as it is now. */
    internal fun knows(folder: File, manifest: BundleManifest): Boolean =
        try {
            states()[folder.absolutePath] == state(folder, manifest)
        } catch (_: IOException) {
            false
        }

    /** Note that the bundle in [folder] is whole. A memory that cannot be written costs time, nothing else. */
    internal fun remember(folder: File, manifest: BundleManifest) {
        try {
            val newest = manifest.files.keys.maxOfOrNull { File(folder, it).lastModified() } ?: 0
            if (newest + SETTLED_MS > System.currentTimeMillis()) return
            val new = File(file.path + ".new")
            new.writeText(Json.write(states() + (folder.absolutePath to state(folder, manifest))))
            if (!new.renameTo(file)) new.delete()
        } catch (_: IOException) {
            return
        }
    }

    private fun states(): Map<String, Any?> =
        try {
            if (file.isFile) JsonFields.of(file.inputStream().use(Json::parse)).members else emptyMap()
        } catch (_: EdgekitException) {
            emptyMap()
        }

    private fun state(folder: File, manifest: BundleManifest): String {
        val digest = MessageDigest.getInstance("SHA-256")
        digest.update(manifest.sha256.toByteArray())
        for (name in manifest.files.keys.sorted()) {
            val path = File(folder, name).toPath()
            digest.update("\u0000$name\u0000${Files.size(path)}\u0000${Files.getLastModifiedTime(path)}".toByteArray())
        }
        return hexadecimal(digest.digest())
    }

    private companion object {
        const val SETTLED_MS = 2_000
    }
}

internal fun hexadecimal(bytes: ByteArray): String = bytes.joinToString("") { "%02x".format(it) }
