package ai.edgekit.demo

import ai.edgekit.core.CloudBudget
import ai.edgekit.core.CloudClient
import ai.edgekit.core.Consent
import android.content.Context
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableStateOf
import androidx.compose.runtime.setValue

/** What the user chose, kept across starts of the app; the key in Android's Keystore, in no log and on no screen. */
class DemoSettings(context: Context) {
    private val store = context.getSharedPreferences("settings", Context.MODE_PRIVATE)
    private val vault = KeyVault(store)

    /** The cloud's address, ".../v1". */
    var server by mutableStateOf(text("server"))
        private set
    var model by mutableStateOf(text("model"))
        private set
    var key by mutableStateOf(vault.read())
        private set

    /** Whether prompts may leave for [server]. */
    var consent by mutableStateOf(consentFor(server))
        private set

    /** The name of the bundle last chosen. */
    var bundle: String
        get() = text("bundle")
        set(name) = put("bundle", name)

    fun changeServer(address: String) {
        server = address.trim()
        put("server", server)
        consent = consentFor(server)
    }

    fun changeModel(name: String) {
        model = name.trim()
        put("model", model)
    }

    fun changeKey(given: String) {
        key = given.trim()
        vault.write(key)
    }

    /** From now on, for this server. */
    fun changeConsent(chosen: Consent) {
        consent = chosen
        put("consent $server", chosen.name)
    }

    /** The budget as it was kept; one that cannot be is the usual one. */
    fun budget(): CloudBudget {
        val share = text("share").toDoubleOrNull()?.takeIf { it in 0.0..1.0 } ?: USUAL_SHARE
        return CloudBudget(share, history = text("history").map { it == '1' })
    }

    fun keep(budget: CloudBudget) {
        put("share", budget.share.toString())
        put("history", budget.history.joinToString("") { if (it) "1" else "0" })
    }

    /** The cloud; null if none is named. Throws EdgekitException for one that cannot be. */
    fun cloud(): CloudClient? =
        if (model.isEmpty() || server.isEmpty()) null else CloudClient(model, server, key)

    private fun consentFor(address: String): Consent =
        Consent.entries.firstOrNull { it.name == text("consent $address") } ?: Consent.ASK

    private fun text(name: String): String = store.getString(name, "").orEmpty()

    private fun put(name: String, value: String) = store.edit().putString(name, value).apply()

    private companion object {
        const val USUAL_SHARE = 0.3
    }
}
