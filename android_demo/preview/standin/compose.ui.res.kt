package androidx.compose.ui.res

import androidx.compose.runtime.Composable
import java.io.File
import javax.xml.parsers.DocumentBuilderFactory

/** The app's own strings; a resource's id is its place among them. */
private val STRINGS: List<String> by lazy {
    val root = DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(File(System.getProperty("strings")))
    val nodes = root.getElementsByTagName("string")
    (0 until nodes.length).map { nodes.item(it).textContent.replace("\\n", "\n") }
}

@Composable
fun stringResource(id: Int, vararg arguments: Any): String {
    val text = STRINGS[id]
    return if (arguments.isEmpty()) text else String.format(text, *arguments)
}
