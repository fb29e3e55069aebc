package ai.edgekit.preview

import android.app.Application

/** One element of the screen: what it is called in the style sheet, what it says, what touching it does. */
class View(val kind: String, private val style: String = "", val isEnabled: Boolean = true) {
    val children = ArrayList<View>()
    var text = ""
    var onTap: (() -> Unit)? = null
    var onType: ((String) -> Unit)? = null

    /** All views in and below this one. */
    val all: Sequence<View> get() = sequenceOf(this) + children.asSequence().flatMap { it.all }

    /** What the user would call it: a field by its label, anything else by its words. */
    val name: String get() = if (kind == "field") children[0].name else all.map { it.text }.joinToString("")

    fun html(): String {
        val disabled = if (isEnabled) "" else " disabled"
        val inside = escape(text) + children.joinToString("") { it.html() }
        return "<div class=\"$kind$disabled\" style=\"$style\">$inside</div>\n"
    }
}

/** [text] as HTML shows it. */
fun escape(text: String): String = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

/** Runs the app's composable functions from the top and keeps what they remember between two runs. */
object Composition {
    lateinit var application: Application
    var content: () -> Unit = {}
    private val slots = HashMap<List<String>, Any?>()
    private val used = HashSet<List<String>>()
    private var parent = View("screen")

    /** Compose the whole screen anew. What a page that is gone had remembered is forgotten, as in Compose. */
    fun compose(): View {
        parent = View("screen")
        used.clear()
        content()
        slots.keys.retainAll(used)
        return parent
    }

    /** Add [view] where the screen has got to, with what [inside] adds to it. */
    fun add(view: View, inside: () -> Unit = {}) {
        val outer = parent
        outer.children.add(view)
        parent = view
        inside()
        parent = outer
    }

    /** The value made at this place of the sources when the screen first got here. */
    @Suppress("UNCHECKED_CAST")
    fun <T> remember(make: () -> T): T {
        val place = StackWalker.getInstance().walk { frames ->
            frames.map { "${it.className}.${it.methodName}:${it.lineNumber}" }.toList()
        }.takeWhile { !it.startsWith("ai.edgekit.preview.Composition.compose") }
        used.add(place)
        return slots.getOrPut(place, make) as T
    }
}
