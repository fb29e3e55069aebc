package ai.edgekit.demo

import android.content.SharedPreferences

/** In the place of the app's, whose Keystore is Android's: keeps the key as long as the program runs. */
class KeyVault(@Suppress("UNUSED_PARAMETER") store: SharedPreferences) {
    private var kept = ""

    fun read() = kept

    fun write(key: String) {
        kept = key
    }
}
