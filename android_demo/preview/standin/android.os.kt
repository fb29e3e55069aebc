package android.os

class Bundle

object Build {
    const val MANUFACTURER = "no"
    const val MODEL = "phone"

    object VERSION {
        val RELEASE = "stand-in on ${System.getProperty("os.name")}"
    }
}
