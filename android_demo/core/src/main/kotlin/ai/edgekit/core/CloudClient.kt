package ai.edgekit.core

import java.io.ByteArrayOutputStream
import java.io.IOException
import java.net.HttpURLConnection
import java.net.SocketTimeoutException
import java.net.URI
import java.net.URISyntaxException

/** What an HTTP server replied. */
public class HttpReply(public val status: Int, public val body: String)

/** Sends one POST request. Throws [IOException] if no reply comes. */
public fun interface Transport {
    /** [onSent] is called before the first byte leaves, [onLine] with each line of a good reply as it comes. */
    public fun post(
        url: String, headers: Map<String, String>, body: String, onSent: () -> Unit, onLine: (String) -> Unit,
    ): HttpReply
}

/**
 * A cloud behind any OpenAI-compatible chat server at [baseUrl], which ends in the API's version (".../v1").
 *
 * One request a prompt, never repeated. The key goes into the request's header and nowhere else: errors
 * never show it, and an address that would carry it unencrypted over a network is refused.
 */
public class CloudClient(
    private val model: String,
    private val baseUrl: String,
    private val key: String,
    private val transport: Transport = HttpTransport(),
) : Cloud {
    override val name: String get() = "openai:$model"

    init {
        if (!isPrivateAddress(baseUrl) || model.isEmpty()) {
            throw EdgekitException("bad cloud: $model at $baseUrl. It needs a model and an https address. Change it.")
        }
        // Anything else would be refused by the platform, in an error that shows the key.
        if (key.any { it !in '!'..'~' }) {
            throw EdgekitException("bad key: of ${key.length} characters. Not all are plain ASCII. Copy it again.")
        }
    }

    override fun request(prompt: String): CloudRequest =
        CloudRequest(baseUrl.trimEnd('/'), model, listOf(Message("system", INSTRUCTION), Message("user", prompt)))

    override fun send(request: CloudRequest, onSent: () -> Unit, onText: (String) -> Unit): String {
        val headers = mapOf("Content-Type" to "application/json", "Authorization" to "Bearer $key")
        val streamed = StringBuilder()
        var isStream = false
        val reply = try {
            transport.post(request.server + "/chat/completions", headers, Json.write(request.body()), onSent) { line ->
                if (line.startsWith(EVENT)) {
                    isStream = true
                    val piece = piece(line.removePrefix(EVENT).trim())
                    streamed.append(piece)
                    if (piece.isNotEmpty()) onText(piece)
                }
            }
        } catch (_: SocketTimeoutException) {
            throw failure("It did not answer in time. Ask again", ErrorKind.TIMED_OUT)
        } catch (_: IOException) {
            throw failure("It cannot be reached. Check the network and the address", ErrorKind.OFFLINE)
        } catch (error: RuntimeException) { // what the platform refuses to send; its words may hold the key
            throw failure("The request cannot be sent (${error.javaClass.simpleName}). Check the settings")
        }
        when (reply.status) {
            in 200..299 -> Unit
            401, 403 -> throw failure("It refuses the key (status ${reply.status}). Check it", ErrorKind.UNAUTHORIZED)
            in 300..399, NETWORK_LOGIN -> throw failure(
                "Something else answered (status ${reply.status}). Sign in to the network, or check the address",
                ErrorKind.OFFLINE,
            )
            else -> throw failure("It answered with status ${reply.status}. Ask again later")
        }
        val text = if (isStream) streamed.toString() else content(reply.body)
        if (text.isNullOrBlank()) throw failure("Its reply holds no text. Check the model's name")
        return finalAnswer(text)
    }

    /** What one event of a stream adds; the last one, [DONE], and such as only count tokens add nothing. */
    private fun piece(event: String): String = try {
        val choices = if (event == DONE) emptyList() else JsonFields.of(Json.parse(event)).list("choices")
        val first = choices.firstOrNull()?.let { JsonFields.of(it, "choices.0") }
        first?.fields("delta")?.textOrNull("content").orEmpty()
    } catch (_: EdgekitException) {
        throw failure("Its reply cannot be read. Check the address")
    }

    private fun content(body: String): String? = try {
        val choice = JsonFields.of(JsonFields.of(Json.parse(body)).list("choices").firstOrNull(), "choices.0")
        choice.fields("message").textOrNull("content")
    } catch (_: EdgekitException) {
        throw failure("Its reply cannot be read. Check the address")
    }

    private fun failure(why: String, kind: ErrorKind = ErrorKind.CLOUD_FAILED): EdgekitException {
        val line = "cloud failed: $model at $baseUrl. $why."
        return EdgekitException(if (key.isEmpty()) line else line.replace(key, "***"), kind)
    }

    public companion object {
        public const val INSTRUCTION: String =
            "Solve the task. End with your final answer alone between <answer> and </answer>."
        private const val NETWORK_LOGIN = 511
        private const val EVENT = "data:"
        private const val DONE = "[DONE]"
        private const val OPEN = "<answer>"
        private const val CLOSE = "</answer>"

        /** What stands between the last <answer> and its </answer>; without them, all of [text]. */
        public fun finalAnswer(text: String): String {
            val opened = text.lastIndexOf(OPEN)
            return (if (opened < 0) text else text.substring(opened + OPEN.length).substringBefore(CLOSE)).trim()
        }
    }
}

/** Plain http may go to this machine, and to the one that an emulator runs on, by its name for it. */
private val THIS_MACHINE = setOf("localhost", "127.0.0.1", "10.0.2.2")

/** Whether nobody on the way reads what goes to [url]. */
internal fun isPrivateAddress(url: String): Boolean {
    val address = try {
        URI(url)
    } catch (_: URISyntaxException) {
        return false
    }
    val host = address.host ?: return false
    return address.scheme == "https" || (address.scheme == "http" && host in THIS_MACHINE)
}

/**
 * [Transport] over the platform's own HTTP client: [timeoutMs] from one byte to the next, [wholeMs] for all of a reply.
 * Redirects are not followed: the key stays with its host.
 */
public class HttpTransport(private val timeoutMs: Int = 30_000, private val wholeMs: Long = 180_000) : Transport {
    override fun post(
        url: String, headers: Map<String, String>, body: String, onSent: () -> Unit, onLine: (String) -> Unit,
    ): HttpReply {
        val connection = URI(url).toURL().openConnection() as HttpURLConnection
        val begin = System.nanoTime()
        try {
            connection.requestMethod = "POST"
            connection.connectTimeout = timeoutMs
            connection.readTimeout = timeoutMs
            connection.instanceFollowRedirects = false
            connection.doOutput = true
            headers.forEach(connection::setRequestProperty)
            val bytes = body.toByteArray()
            connection.setFixedLengthStreamingMode(bytes.size)
            connection.connect()
            onSent()
            connection.outputStream.use { it.write(bytes) }
            val status = connection.responseCode
            val isGood = status in 200..299
            return HttpReply(status, if (isGood) read(connection, begin, onLine) else "")
        } finally {
            connection.disconnect()
        }
    }

    private fun read(connection: HttpURLConnection, begin: Long, onLine: (String) -> Unit): String {
        val whole = ByteArrayOutputStream()
        val line = ByteArrayOutputStream()
        val buffer = ByteArray(1 shl 14)
        connection.inputStream.use { stream ->
            while (true) {
                val count = stream.read(buffer)
                if (count < 0) break
                whole.write(buffer, 0, count)
                if (whole.size() > MAX_REPLY) throw IOException("reply larger than $MAX_REPLY bytes")
                if (System.nanoTime() - begin > wholeMs * 1_000_000) throw SocketTimeoutException("the whole reply")
                for (byte in buffer.take(count)) {
                    if (byte != NEWLINE) {
                        line.write(byte.toInt())
                    } else {
                        onLine(line.toString("UTF-8").trimEnd('\r'))
                        line.reset()
                    }
                }
            }
        }
        if (line.size() > 0) onLine(line.toString("UTF-8"))
        return whole.toString("UTF-8")
    }

    private companion object {
        const val MAX_REPLY = 1 shl 20
        const val NEWLINE = '\n'.code.toByte()
    }
}
