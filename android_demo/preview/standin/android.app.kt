package android.app

import android.content.Context
import java.io.File

open class Application(folder: File) : Context(folder) {
    companion object {
        const val MODE_PRIVATE = Context.MODE_PRIVATE
    }
}
