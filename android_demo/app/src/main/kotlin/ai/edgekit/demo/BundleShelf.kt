package ai.edgekit.demo

import ai.edgekit.core.BundleDownload
import ai.edgekit.core.BundleManifest
import ai.edgekit.core.EdgekitException
import ai.edgekit.core.ErrorKind
import android.content.Context
import java.io.File
import java.io.IOException

/** The app's bundles: pushed with adb, downloaded, and built in, the last copied, since runtimes open files. */
class BundleShelf(private val context: Context) {
    private val downloads = File(context.filesDir, "bundles")

    /** All there are, the one that `adb push` put first. Throws [EdgekitException] if there is none. */
    fun all(): List<File> {
        val pushed = context.getExternalFilesDir(null)?.resolve(NAME)
        val kept = downloads.listFiles().orEmpty().sortedBy { it.name }
        val found = (listOfNotNull(pushed) + kept).filter { isBundle(it) } + listOfNotNull(builtIn())
        if (found.isNotEmpty()) return found
        val why = "The app brings none either. Download one, or run `edgekit demo android BUNDLE`"
        throw EdgekitException("no bundle: $pushed. $why.", ErrorKind.ABSENT)
    }

    /** Where the bundle at [address] is kept. */
    fun folderFor(address: String): File = File(downloads, BundleDownload.folderName(address))

    private fun isBundle(folder: File) = !folder.name.endsWith(".partial") && File(folder, BundleManifest.NAME).isFile

    private fun builtIn(): File? {
        val manifest = try {
            context.assets.open("$NAME/${BundleManifest.NAME}").use { it.readBytes() }
        } catch (_: IOException) {
            return null
        }
        val copied = File(context.filesDir, NAME)
        val known = File(copied, BundleManifest.NAME)
        if (!known.isFile || !known.readBytes().contentEquals(manifest)) {
            copied.deleteRecursively()
            copy(NAME, copied)
        }
        return copied
    }

    /** Copy the asset folder [from] to [to]; the manifest comes last, so that a copy cut short is made again. */
    private fun copy(from: String, to: File) {
        val names = context.assets.list(from).orEmpty().sortedBy { it == BundleManifest.NAME }
        if (names.isEmpty()) {
            context.assets.open(from).use { source -> to.outputStream().use(source::copyTo) }
            return
        }
        to.mkdirs()
        for (name in names) copy("$from/$name", File(to, name))
    }

    private companion object {
        const val NAME = "bundle"
    }
}
