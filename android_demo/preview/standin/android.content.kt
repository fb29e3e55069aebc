package android.content

import android.app.ActivityManager
import android.net.ConnectivityManager
import android.net.Uri
import androidx.compose.ui.res.stringResource
import java.io.File
import java.io.InputStream
import java.io.OutputStream

class ClipData private constructor(val text: String) {
    companion object {
        @Suppress("UNUSED_PARAMETER")
        fun newPlainText(label: String, text: String) = ClipData(text)
    }
}

class ClipboardManager {
    fun setPrimaryClip(clip: ClipData) {
        kept = clip.text
    }

    companion object {
        var kept = ""
    }
}

class ComponentCallbacks2 {
    companion object {
        const val TRIM_MEMORY_BACKGROUND = 40
    }
}

class ContentResolver {
    fun openOutputStream(uri: Uri): OutputStream? = throw UnsupportedOperationException("no documents here: $uri")
}

/** The app's assets: none. */
class AssetManager {
    fun open(name: String): InputStream = throw java.io.FileNotFoundException(name)

    fun list(path: String): Array<String>? = emptyArray<String>().also { check(path.isNotEmpty()) }
}

/** Kept as long as the program runs. */
class SharedPreferences {
    private val values = HashMap<String, Any>()

    fun getString(name: String, default: String?) = values[name] as String? ?: default

    fun edit() = Editor()

    inner class Editor {
        fun putString(name: String, value: String?) = also { if (value != null) values[name] = value }

        fun apply() = Unit
    }
}

/** An app whose files lie in [folder]. */
open class Context(private val folder: File) {
    val assets = AssetManager()
    val contentResolver = ContentResolver()
    val filesDir: File get() = File(folder, "private").apply { mkdirs() }
    private val preferences = HashMap<String, SharedPreferences>()

    fun getString(id: Int, vararg arguments: Any): String = stringResource(id, *arguments)

    fun getExternalFilesDir(type: String?): File? = File(folder, type ?: "files")

    @Suppress("UNUSED_PARAMETER")
    fun getSharedPreferences(name: String, mode: Int) = preferences.getOrPut(name) { SharedPreferences() }

    fun <T> getSystemService(service: Class<T>): T =
        service.cast(
            when (service) {
                ActivityManager::class.java -> ActivityManager()
                ClipboardManager::class.java -> ClipboardManager()
                else -> ConnectivityManager()
            },
        )

    companion object {
        const val MODE_PRIVATE = 0
    }
}
