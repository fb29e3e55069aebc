package ai.edgekit.preview

import ai.edgekit.core.BundleDownload
import ai.edgekit.demo.MainActivity
import ai.edgekit.demo.RecordedModel
import android.app.Application
import java.io.File
import kotlin.system.exitProcess

private const val PATIENCE_NS = 60_000_000_000L

/** The screen in front of a user who types, taps and waits, as a UI test would. */
private class User {
    private var screen = Composition.compose()

    /** The view called [name], once it is there and can be touched. A dialog hides what is behind it. */
    fun find(kind: String, name: String? = null): View {
        val end = System.nanoTime() + PATIENCE_NS
        while (true) {
            screen = Composition.compose()
            val front = screen.all.lastOrNull { it.kind == "dialog" } ?: screen
            val found = front.all.firstOrNull { it.kind.startsWith(kind) && (name == null || it.name == name) }
            if (found != null && found.isEnabled) return found
            check(System.nanoTime() < end) { "no $kind called $name. The screen says:\n${screen.name}" }
            Thread.sleep(5)
        }
    }

    fun tap(kind: String, name: String) = find(kind, name).onTap!!()

    fun type(field: String, text: String) = find("field", field).onType!!(text)

    fun ask(prompt: String) {
        type("Ask", prompt)
        tap("button", "Ask")
    }

    /** The screen as it is now. */
    fun look(): String = Composition.compose().html()
}

/**
 * Uses the app and writes what it showed: each screen a file NAME.html in OUT.
 *
 * Usage: PreviewKt BUNDLE OUT CLOUD_URL KEPT_PROMPT CALLING_PROMPT. OUT holds the logits that render.py recorded;
 * the app's own files, its device report among them, go to OUT/phone. The cloud's server gives the bundle as well.
 */
fun main(arguments: Array<String>) {
    val (bundle, out, cloud, kept, calling) = arguments
    val phone = File(out, "phone")
    File(bundle).copyRecursively(File(phone, "files/bundle"), overwrite = true)
    RecordedModel.folder = File(out)
    Composition.application = Application(phone)
    MainActivity().start()
    try {
        visit(User(), cloud, kept, calling) { name, html -> File(out, "$name.html").writeText(html) }
    } catch (failure: IllegalStateException) {
        System.err.println(failure.message)
        exitProcess(1)
    }
    exitProcess(0) // the app's worker would wait for more
}

private fun visit(user: User, cloud: String, kept: String, calling: String, keep: (String, String) -> Unit) {
    user.ask(kept)
    user.find("card")
    user.find("button", "Ask")
    keep("device", user.look())

    user.tap("chip", "Cloud")
    user.type("Server, https://…/v1", cloud)
    user.type("Model", "oracle")
    user.tap("chip", "Ask")
    user.ask(calling)
    user.find("button plain", "Send")
    keep("consent", user.look())
    user.tap("button plain", "Send")
    user.find("card")
    user.find("button", "Ask")
    keep("cloud", user.look())

    user.tap("chip", "Cloud")
    user.tap("chip", "Never send")
    user.tap("chip", "Ask")
    user.ask(calling)
    user.find("button", "Ask")
    keep("never", user.look())

    user.tap("chip", "Models")
    val address = cloud.removeSuffix("v1") + "downloaded"
    user.type("Bundle address, https://…", address)
    user.tap("button", "Download")
    user.find("button", BundleDownload.folderName(address))
    keep("models", user.look())

    user.tap("chip", "Self-test")
    user.tap("button", "Run")
    user.find("button", "Save report")
    user.find("button", "Run")
    keep("self-test", user.look())
}
