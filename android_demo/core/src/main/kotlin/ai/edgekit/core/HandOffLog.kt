package ai.edgekit.core

import java.io.File
import java.io.IOException

/** What left the phone, word for word, one JSON object a line; [file] lies in the app's own storage. */
public class HandOffLog(private val file: File) {
    /** Keep [request], which is about to be sent at [atMs] (milliseconds since 1970). Throws [IOException]. */
    public fun append(request: CloudRequest, atMs: Long = System.currentTimeMillis()) {
        if (file.length() > MOST_BYTES && !file.renameTo(File(file.path + ".old"))) {
            throw IOException("cannot rename ${file.name}")
        }
        file.absoluteFile.parentFile?.mkdirs()
        val line = mapOf("at_ms" to atMs, "server" to request.server) + request.body()
        file.appendText(Json.write(line) + "\n")
    }

    private companion object {
        const val MOST_BYTES = 1L shl 20
    }
}
