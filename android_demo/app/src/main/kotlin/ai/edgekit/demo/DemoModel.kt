package ai.edgekit.demo

import ai.edgekit.core.AppFacts
import ai.edgekit.core.Bundle
import ai.edgekit.core.CaseReport
import ai.edgekit.core.CheckMemory
import ai.edgekit.core.CloudBudget
import ai.edgekit.core.CloudClient
import ai.edgekit.core.CloudRequest
import ai.edgekit.core.DeviceFacts
import ai.edgekit.core.DeviceReport
import ai.edgekit.core.EdgekitException
import ai.edgekit.core.ErrorKind
import ai.edgekit.core.HandOffLog
import ai.edgekit.core.HandOffRules
import ai.edgekit.core.HybridAnswer
import ai.edgekit.core.HybridListener
import ai.edgekit.core.HybridSession
import ai.edgekit.core.MemoryNeed
import ai.edgekit.core.SelfTest
import ai.edgekit.core.StopSignal
import ai.edgekit.core.deviceFailed
import android.app.ActivityManager
import android.app.Application
import android.net.ConnectivityManager
import android.net.NetworkCapabilities
import android.os.Build
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableStateListOf
import androidx.compose.runtime.mutableStateOf
import androidx.compose.runtime.setValue
import androidx.lifecycle.AndroidViewModel
import java.io.File
import java.util.concurrent.CompletableFuture
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit
import java.util.concurrent.TimeoutException

/** Who answers hand-offs. The [key] stays in memory: it is not stored, logged or shown. */
data class CloudSettings(val model: String = "", val baseUrl: String = "", val key: String = "") {
    val isSet: Boolean get() = model.isNotBlank() && baseUrl.isNotBlank()

    override fun toString() = "$model at $baseUrl"
}

/** The app's state. Everything that takes time runs on one worker thread, which owns the model. */
class DemoModel(application: Application) : AndroidViewModel(application), HybridListener {
    private val worker = Executors.newSingleThreadExecutor()
    private var bundle: Bundle? = null
    private var model: PhoneModel? = null
    @Volatile
    private var consent: CompletableFuture<Boolean>? = null

    @Volatile
    private var stop = StopSignal()
    private val log = HandOffLog(File(application.filesDir, "hand-offs.jsonl"))
    private val store = application.getSharedPreferences("budget", Application.MODE_PRIVATE)
    private var budget = storedBudget(store.getFloat("share", 0.3f).toDouble())

    var title by mutableStateOf("Checking the bundle")
        private set
    var isBusy by mutableStateOf(true)
        private set
    var text by mutableStateOf("")
        private set
    var answer by mutableStateOf<HybridAnswer?>(null)
        private set
    var error by mutableStateOf<String?>(null)
        private set
    var share by mutableStateOf(budget.share)
        private set
    var callsLeft by mutableStateOf(budget.left)
        private set
    var settings by mutableStateOf(CloudSettings())

    /** The request that waits for the user's yes or no; null if none does. */
    var requestToConfirm by mutableStateOf<CloudRequest?>(null)
        private set
    var report by mutableStateOf<DeviceReport?>(null)
        private set
    val cases = mutableStateListOf<CaseReport>()
    val window: Int get() = budget.window

    init {
        work {
            val checked = CheckMemory(File(getApplication<Application>().filesDir, "checked-bundles.json"))
            val opened = Bundle.open(bundleFolder(getApplication<Application>()), checked)
            bundle = opened
            val memory = ActivityManager.MemoryInfo()
            getApplication<Application>().getSystemService(ActivityManager::class.java).getMemoryInfo(memory)
            val need = MemoryNeed.of(opened.manifest)
            title = "Loading: it ${need.against(memory.availMem)}"
            need.check(memory.availMem)
            model = openModel(opened)
            title = "${opened.manifest.recipeName} · ${model?.runtime?.name} ${model?.runtime?.version}"
        }
    }

    /** Answer [prompt] by device or cloud. */
    fun ask(prompt: String) = work {
        text = ""
        answer = null
        stop = StopSignal()
        val rules = HandOffRules(log = log::append)
        val session =
            HybridSession(openedBundle(), openedModel(), cloud(), budget, rules, ::isOnline, ::askConsent)
        try {
            answer = session.ask(prompt, this, stop)
            text = answer?.text.orEmpty()
        } finally {
            callsLeft = budget.left
            store.edit().putString("history", budget.history.joinToString("") { if (it) "1" else "0" }).apply()
        }
    }

    /** End the prompt that is being answered, at its next token. */
    fun stop() {
        stop.stop()
        confirm(false)
    }

    /** The cloud of the settings; with bad ones none, and the device answers all the same. */
    private fun cloud(): CloudClient? = try {
        settings.takeIf { it.isSet }?.let { CloudClient(it.model, it.baseUrl, it.key) }
    } catch (failure: EdgekitException) {
        error = failure.line
        null
    }

    /** Replay the bundle's conformance cases; the report also goes to a file that `adb pull` reaches. */
    fun runSelfTest() = work {
        cases.clear()
        report = null
        val replayed = SelfTest(openedBundle(), openedModel()).run(cases::add)
        val device = DeviceFacts("${Build.MANUFACTURER} ${Build.MODEL}", "Android ${Build.VERSION.RELEASE}")
        val app = AppFacts(BuildConfig.APPLICATION_ID, BuildConfig.VERSION_NAME)
        val made = DeviceReport(openedBundle().manifest, device, app, openedModel().runtime, replayed)
        getApplication<Application>().getExternalFilesDir(null)?.let { File(it, REPORT).writeText(made.toJson()) }
        report = made
    }

    /** The user's answer to [requestToConfirm]. */
    fun confirm(yes: Boolean) {
        requestToConfirm = null
        consent?.complete(yes)
    }

    /** At most [share] of any [window] prompts in a row may go to the cloud. */
    fun changeShare(share: Double) = work {
        budget = CloudBudget(share, budget.window, budget.history)
        this.share = share
        callsLeft = budget.left
        store.edit().putFloat("share", share.toFloat()).apply()
    }

    override fun onText(text: String) {
        this.text += text
    }

    override fun onRestart() {
        text = ""
    }

    override fun onCleared() {
        stop()
        worker.execute { model?.close() }
        worker.shutdown()
    }

    private fun work(task: () -> Unit) = worker.execute {
        isBusy = true
        error = null
        try {
            task()
        } catch (failure: Exception) {
            tell(failure)
        } catch (failure: OutOfMemoryError) {
            tell(failure)
        } catch (failure: LinkageError) {
            tell(failure)
        }
        isBusy = false
    }

    /** Whatever fails is one line on the screen, and the app goes on. */
    private fun tell(failure: Throwable) {
        val told = deviceFailed(failure)
        if (told.kind != ErrorKind.STOPPED) error = told.line
    }

    private fun openedBundle(): Bundle = bundle ?: throw EdgekitException("no bundle: it did not open. Install one.")

    private fun openedModel(): PhoneModel = model ?: throw EdgekitException("no model: it did not load. Install one.")

    /** Asked on the worker, answered on the main thread by [confirm]; who does not answer in time refuses. */
    private fun askConsent(request: CloudRequest): Boolean {
        val asked = CompletableFuture<Boolean>()
        consent = asked
        requestToConfirm = request
        return try {
            asked.get(CONSENT_S, TimeUnit.SECONDS)
        } catch (_: TimeoutException) {
            confirm(false)
            false
        }
    }

    private fun isOnline(): Boolean {
        val manager = getApplication<Application>().getSystemService(ConnectivityManager::class.java)
        val network = manager.getNetworkCapabilities(manager.activeNetwork)
        // Validated: behind a sign-in page there is a network, but no internet.
        return network?.hasCapability(NetworkCapabilities.NET_CAPABILITY_VALIDATED) == true
    }

    private fun storedBudget(share: Double): CloudBudget {
        val history = store.getString("history", "").orEmpty().map { it == '1' }
        return CloudBudget(share, history = history)
    }

    companion object {
        const val REPORT = "device-report.json"
        private const val CONSENT_S = 120L
    }
}
