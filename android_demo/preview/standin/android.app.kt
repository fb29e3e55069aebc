package android.app

import ai.edgekit.preview.Composition
import android.content.Context
import android.os.Bundle
import java.io.File

open class Application(folder: File) : Context(folder) {
    companion object {
        const val MODE_PRIVATE = Context.MODE_PRIVATE
    }
}

open class Activity {
    val application: Application get() = Composition.application

    protected open fun onCreate(savedInstanceState: Bundle?) = Unit

    open fun onTrimMemory(level: Int) = check(level >= 0)
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
