package ai.edgekit.demo

import ai.edgekit.core.AppFacts
import ai.edgekit.core.Bundle
import ai.edgekit.core.BundleDownload
import ai.edgekit.core.CaseReport
import ai.edgekit.core.CheckMemory
import ai.edgekit.core.CloudBudget
import ai.edgekit.core.CloudClient
import ai.edgekit.core.CloudRequest
import ai.edgekit.core.Consent
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
import ai.edgekit.core.PhoneModel
import ai.edgekit.core.SelfTest
import ai.edgekit.core.StopSignal
import ai.edgekit.core.deviceFailed
import android.app.ActivityManager
import android.app.Application
import android.net.ConnectivityManager
import android.net.NetworkCapabilities
import android.os.Build
import android.os.Debug
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableStateListOf
import androidx.compose.runtime.mutableStateOf
import androidx.compose.runtime.setValue
import androidx.lifecycle.AndroidViewModel
import java.io.File
import java.util.concurrent.CompletableFuture
import java.util.concurrent.Executors

/** One prompt, and what came of it so far. */
class Turn(val prompt: String) : HybridListener {
    var text by mutableStateOf("")
        private set
    var answer by mutableStateOf<HybridAnswer?>(null)
    var error by mutableStateOf<String?>(null)
    var memoryMb by mutableStateOf(0L)

    override fun onText(text: String) {
        this.text += text
    }

    override fun onRestart() {
        text = ""
    }
}

/** The app's state. Everything that takes time runs on one worker thread, which owns the model. */
class DemoModel(application: Application) : AndroidViewModel(application) {
    private val worker = Executors.newSingleThreadExecutor()
    private val shelf = BundleShelf(application)
    private val log = HandOffLog(File(application.filesDir, "hand-offs.jsonl"))
    private var bundle: Bundle? = null
    private var model: PhoneModel? = null

    @Volatile
    private var consent: CompletableFuture<Boolean>? = null

    @Volatile
    private var stop = StopSignal()
    val settings = DemoSettings(application)
    private var budget = settings.budget()

    var title by mutableStateOf("")
        private set
    var isBusy by mutableStateOf(true)
        private set
    var error by mutableStateOf<String?>(null)
        private set
    var share by mutableStateOf(budget.share)
        private set
    var callsLeft by mutableStateOf(budget.left)
        private set

    /** How much of a bundle is there, from 0 to 1; null if none is being fetched. */
    var progress by mutableStateOf<Float?>(null)
        private set

    /** The request that waits for the user's yes or no; null if none does. */
    var requestToConfirm by mutableStateOf<CloudRequest?>(null)
        private set
    var report by mutableStateOf<DeviceReport?>(null)
        private set
    val turns = mutableStateListOf<Turn>()
    val bundles = mutableStateListOf<File>()
    val cases = mutableStateListOf<CaseReport>()
    val window: Int get() = budget.window

    init {
        work {
            list()
            load(bundles.firstOrNull { it.name == settings.bundle } ?: bundles.first())
        }
    }

    /** Run the bundle in [folder] from now on. */
    fun choose(folder: File) = work {
        load(folder)
        settings.bundle = folder.name
    }

    /** Fetch the bundle at [address], going on where the last try stopped, and run it. */
    fun download(address: String) = stoppable { signal ->
        progress = 0f
        try {
            val folder = shelf.folderFor(address)
            BundleDownload(address, folder).run(signal) { done, whole -> progress = done.toFloat() / maxOf(whole, 1) }
            list()
            load(folder)
            settings.bundle = folder.name
        } finally {
            progress = null
        }
    }

    /** Answer [prompt] by device or cloud. */
    fun ask(prompt: String) {
        val turn = Turn(prompt)
        turns.add(turn)
        stoppable { signal ->
            val rules = HandOffRules(settings.consent, log = log::append)
            try {
                val session =
                    HybridSession(openedBundle(), openedModel(), cloud(), budget, rules, ::isOnline, ::askConsent)
                val answer = session.ask(prompt, turn, signal)
                turn.memoryMb = Debug.getPss() / KB_A_MB
                turn.answer = answer
            } catch (failure: EdgekitException) {
                turn.error = failure.line
            } finally {
                callsLeft = budget.left
                settings.keep(budget)
            }
        }
    }

    /** End what is being done at its next step. */
    fun stop() {
        stop.stop()
        confirm(false)
    }

    /** The cloud of the settings; with bad ones none, and the device answers all the same. */
    private fun cloud(): CloudClient? = try {
        settings.cloud()
    } catch (failure: EdgekitException) {
        error = failure.line
        null
    }

    /** Replay the bundle's conformance cases; the report also goes to a file that `adb pull` reaches. */
    fun runSelfTest() = stoppable { signal ->
        cases.clear()
        report = null
        val replayed = SelfTest(openedBundle(), openedModel()).run(signal, cases::add)
        val device = DeviceFacts("${Build.MANUFACTURER} ${Build.MODEL}", "Android ${Build.VERSION.RELEASE}")
        val app = AppFacts(BuildConfig.APPLICATION_ID, BuildConfig.VERSION_NAME)
        val made = DeviceReport(openedBundle().manifest, device, app, openedModel().runtime, replayed)
        getApplication<Application>().getExternalFilesDir(null)?.let { File(it, REPORT).writeText(made.toJson()) }
        report = made
    }

    /** Write the report with [write], which may fail. */
    fun saveReport(write: (String) -> Unit) = work { report?.let { write(it.toJson()) } }

    /** The user's answer to [requestToConfirm], for this time or for this server from now on. */
    fun confirm(yes: Boolean, always: Boolean = false) {
        if (always) settings.changeConsent(Consent.ALWAYS)
        requestToConfirm = null
        consent?.complete(yes)
    }

    /** At most [share] of any [window] prompts in a row may go to the cloud. */
    fun changeShare(share: Double) = work {
        budget = CloudBudget(share, budget.window, budget.history)
        this.share = share
        callsLeft = budget.left
        settings.keep(budget)
    }

    /** The system is short of memory, and the user elsewhere: the model goes, and comes back with the next prompt. */
    fun release() {
        worker.execute { attempt(::close) }
    }

    override fun onCleared() {
        stop()
        release()
        worker.shutdown()
    }

    /** Busy from the tap on, not from when the worker gets to it. */
    private fun work(task: () -> Unit) {
        isBusy = true
        worker.execute {
            error = null
            attempt(task)
            isBusy = false
        }
    }

    /** [work] that ends at its next step once the user stops it, from the tap on. */
    private fun stoppable(task: (StopSignal) -> Unit) {
        val signal = StopSignal().also { stop = it }
        work { task(signal) }
    }

    /** Whatever fails is one line on the screen, and the app goes on. */
    private fun attempt(task: () -> Unit) {
        try {
            task()
        } catch (failure: Exception) {
            tell(failure)
        } catch (failure: OutOfMemoryError) {
            tell(failure)
        } catch (failure: LinkageError) {
            tell(failure)
        }
    }

    private fun close() {
        val closing = model
        model = null
        closing?.close()
    }

    private fun tell(failure: Throwable) {
        val told = deviceFailed(failure)
        if (told.kind != ErrorKind.STOPPED) error = told.line
    }

    private fun list() {
        bundles.clear()
        bundles.addAll(shelf.all())
    }

    private fun load(folder: File) {
        close()
        bundle = null
        title = folder.name
        val checked = CheckMemory(File(getApplication<Application>().filesDir, "checked-bundles.json"))
        bundle = Bundle.open(folder, checked)
        openedModel()
    }

    private fun openedBundle(): Bundle =
        bundle ?: throw EdgekitException("no bundle: it did not open. Choose another.", ErrorKind.ABSENT)

    /** The model, loaded if it is not: after what it needs was compared with what there is. */
    private fun openedModel(): PhoneModel = model ?: openedBundle().let { opened ->
        val memory = ActivityManager.MemoryInfo()
        getApplication<Application>().getSystemService(ActivityManager::class.java).getMemoryInfo(memory)
        val need = MemoryNeed.of(opened.manifest)
        title = "${opened.folder.name}: ${sentence(need, memory.availMem)}"
        need.check(memory.availMem)
        openModel(opened).also {
            model = it
            title = "${opened.manifest.recipeName} · ${it.runtime.name} ${it.runtime.version}"
        }
    }

    /** What [need] is beside what there is, in the user's language. */
    private fun sentence(need: MemoryNeed, freeBytes: Long): String {
        val bytes = listOf(need.artifactBytes + need.cacheBytes, need.artifactBytes, need.cacheBytes, freeBytes)
        val (all, weights, caches, free) = bytes.map { it / MB }
        return getApplication<Application>().getString(R.string.needs, all, weights, caches, need.contextLength, free)
    }

    /** Answered on the main thread by [confirm], or interrupted: then nobody waits for an answer any more. */
    private fun askConsent(request: CloudRequest): Boolean {
        val asked = CompletableFuture<Boolean>()
        consent = asked
        requestToConfirm = request
        return try {
            asked.get()
        } catch (_: InterruptedException) {
            false
        } finally {
            if (requestToConfirm === request) requestToConfirm = null
        }
    }

    private fun isOnline(): Boolean {
        val manager = getApplication<Application>().getSystemService(ConnectivityManager::class.java)
        val network = manager.getNetworkCapabilities(manager.activeNetwork)
        // Validated: behind a sign-in page there is a network, but no internet.
        return network?.hasCapability(NetworkCapabilities.NET_CAPABILITY_VALIDATED) == true
    }

    companion object {
        const val REPORT = "device-report.json"
        private const val KB_A_MB = 1024L
        private const val MB = 1_000_000L
    }
}
