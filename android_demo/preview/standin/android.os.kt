package android.os

class Bundle

object Debug {
    fun getPss() = Runtime.getRuntime().run { totalMemory() - freeMemory() } / 1024
}

object Build {
    const val MANUFACTURER = "no"
    const val MODEL = "phone"

    object VERSION {
        val RELEASE = "stand-in on ${System.getProperty("os.name")}"
    }
}
