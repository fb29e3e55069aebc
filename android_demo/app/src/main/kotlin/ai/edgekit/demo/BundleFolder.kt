package ai.edgekit.demo

import ai.edgekit.core.BundleManifest
import ai.edgekit.core.EdgekitException
import android.content.Context
import java.io.File
import java.io.IOException

/**
 * Where the app's bundle lies: in the folder that `adb push` can reach if it holds one, else copied out of the
 * app's assets, since runtimes open files. Throws [EdgekitException] if there is none.
 */
fun bundleFolder(context: Context): File {
    val pushed = context.getExternalFilesDir(null)?.resolve(NAME)
    if (pushed != null && File(pushed, BundleManifest.NAME).isFile) return pushed
    val manifest = try {
        context.assets.open("$NAME/${BundleManifest.NAME}").use { it.readBytes() }
    } catch (_: IOException) {
        throw EdgekitException("no bundle: $pushed. The app brings none either. Run `edgekit demo android BUNDLE`.")
    }
    val copied = File(context.filesDir, NAME)
    val known = File(copied, BundleManifest.NAME)
    if (!known.isFile || !known.readBytes().contentEquals(manifest)) {
        copied.deleteRecursively()
        copy(context, NAME, copied)
    }
    return copied
}

private const val NAME = "bundle"

/** Copy the asset folder [from] to [to]; the manifest comes last, so that a copy cut short is made again. */
private fun copy(context: Context, from: String, to: File) {
    val names = context.assets.list(from).orEmpty().sortedBy { it == BundleManifest.NAME }
    if (names.isEmpty()) {
        context.assets.open(from).use { source -> to.outputStream().use(source::copyTo) }
        return
    }
    to.mkdirs()
    for (name in names) copy(context, "$from/$name", File(to, name))
}
