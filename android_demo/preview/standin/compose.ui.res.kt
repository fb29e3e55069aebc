package androidx.compose.ui.res

import androidx.compose.runtime.Composable
import java.io.File
import javax.xml.parsers.DocumentBuilderFactory

/** The app's own strings; the resources' ids are their names here. */
private val STRINGS: Map<String, String> by lazy {
    val root = DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(File(System.getProperty("strings")))
    val nodes = root.getElementsByTagName("string")
    (0 until nodes.length).map(nodes::item).associate {
        it.attributes.getNamedItem("name").nodeValue to it.textContent.replace("\\n", "\n")
    }
}

@Composable
fun stringResource(id: String, vararg arguments: Any): String {
    val text = STRINGS.getValue(id)
    return if (arguments.isEmpty()) text else String.format(text, *arguments)
}
