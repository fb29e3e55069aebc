package android.app

import android.content.Context
import java.io.File

open class Application(folder: File) : Context(folder) {
    companion object {
        const val MODE_PRIVATE = Context.MODE_PRIVATE
    }
}

/** As much memory as any phone. */
class ActivityManager {
    class MemoryInfo {
        var availMem = 0L
    }

    fun getMemoryInfo(info: MemoryInfo) {
        info.availMem = 4_000_000_000
    }
}
