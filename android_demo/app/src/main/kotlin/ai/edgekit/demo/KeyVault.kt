package ai.edgekit.demo

import android.content.SharedPreferences
import android.security.keystore.KeyGenParameterSpec
import android.security.keystore.KeyProperties
import android.util.Base64
import java.security.KeyStore
import javax.crypto.Cipher
import javax.crypto.KeyGenerator
import javax.crypto.SecretKey
import javax.crypto.spec.GCMParameterSpec

/**
 * Keeps the cloud's key in [store], encrypted under a key that never leaves Android's Keystore. A Keystore that fails,
 * which phones' makers do with exceptions of their own, ends nothing: the key is then in memory only.
 */
class KeyVault(private val store: SharedPreferences) {
    /** The key; empty if none is kept, or if it cannot be read any more. */
    fun read(): String {
        val stored = store.getString(NAME, null) ?: return ""
        return try {
            val kept = Base64.decode(stored, Base64.NO_WRAP)
            val cipher = Cipher.getInstance(CIPHER)
            cipher.init(Cipher.DECRYPT_MODE, secret(), GCMParameterSpec(TAG_BITS, kept, 0, NONCE_BYTES))
            cipher.doFinal(kept, NONCE_BYTES, kept.size - NONCE_BYTES).decodeToString()
        } catch (_: Exception) { // also where the phone's lock was changed
            ""
        }
    }

    /** Keep [key]; an empty one is forgotten. */
    fun write(key: String) {
        store.edit().remove(NAME).apply()
        if (key.isEmpty()) return
        try {
            val cipher = Cipher.getInstance(CIPHER)
            cipher.init(Cipher.ENCRYPT_MODE, secret())
            val kept = cipher.iv + cipher.doFinal(key.toByteArray())
            store.edit().putString(NAME, Base64.encodeToString(kept, Base64.NO_WRAP)).apply()
        } catch (_: Exception) {
            return
        }
    }

    private fun secret(): SecretKey {
        val keys = KeyStore.getInstance(PROVIDER).apply { load(null) }
        (keys.getKey(NAME, null) as SecretKey?)?.let { return it }
        val purposes = KeyProperties.PURPOSE_ENCRYPT or KeyProperties.PURPOSE_DECRYPT
        val wanted = KeyGenParameterSpec.Builder(NAME, purposes)
            .setBlockModes(KeyProperties.BLOCK_MODE_GCM)
            .setEncryptionPaddings(KeyProperties.ENCRYPTION_PADDING_NONE)
            .build()
        return KeyGenerator.getInstance(KeyProperties.KEY_ALGORITHM_AES, PROVIDER).apply { init(wanted) }.generateKey()
    }

    private companion object {
        const val NAME = "cloud-key"
        const val PROVIDER = "AndroidKeyStore"
        const val CIPHER = "AES/GCM/NoPadding"
        const val TAG_BITS = 128
        const val NONCE_BYTES = 12
    }
}
