package ai.edgekit.core

import java.io.ByteArrayOutputStream
import java.io.IOException
import java.net.HttpURLConnection
import java.net.SocketTimeoutException
import java.net.URI
import java.net.URISyntaxException

/** What an HTTP server replied. */
class HttpReply(val status: Int, val body: String)

/** Sends one POST request, `onSent` before its first byte leaves. Throws [IOException] if no reply comes. */
fun interface Transport {
    fun post(url: String, headers: Map<String, String>, body: String, onSent: () -> Unit): HttpReply
}

/**
 * A cloud behind any OpenAI-compatible chat server at [baseUrl], which ends in the API's version (".../v1").
 *
 * One request a prompt, never repeated. The key goes into the request's header and nowhere else: errors
 * never show it, and an address that would carry it unencrypted over a network is refused.
 */
class CloudClient(
    private val model: String,
    private val baseUrl: String,
    private val key: String,
    private val transport: Transport = HttpTransport(),
) : Cloud {
    override val name: String get() = "openai:$model"

    init {
        val address = try {
            URI(baseUrl)
        } catch (_: URISyntaxException) {
            null
        }
        val isPrivate = address?.scheme == "https" || (address?.scheme == "http" && address.host in THIS_MACHINE)
        if (address?.host == null || !isPrivate || model.isEmpty()) {
            throw EdgekitException("bad cloud: $model at $baseUrl. It needs a model and an https address. Change it.")
        }
        // Anything else would be refused by the platform, in an error that shows the key.
        if (key.any { it !in '!'..'~' }) {
            throw EdgekitException("bad key: of ${key.length} characters. Not all are plain ASCII. Copy it again.")
        }
    }

    override fun request(prompt: String): CloudRequest =
        CloudRequest(baseUrl.trimEnd('/'), model, listOf(Message("system", INSTRUCTION), Message("user", prompt)))

    override fun send(request: CloudRequest, onSent: () -> Unit): String {
        val headers = mapOf("Content-Type" to "application/json", "Authorization" to "Bearer $key")
        val reply = try {
            transport.post(request.server + "/chat/completions", headers, Json.write(request.body()), onSent)
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
        val text = content(reply.body)
        if (text.isNullOrBlank()) throw failure("Its reply holds no text. Check the model's name")
        return finalAnswer(text)
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

    companion object {
        const val INSTRUCTION =
            "Solve the task. End with your final answer alone between <answer> and </answer>."
        private const val NETWORK_LOGIN = 511
        private const val OPEN = "<answer>"
        private const val CLOSE = "</answer>"

        /** Hosts that plain http may go to: this machine, and an emulator's name for the one it runs on. */
        private val THIS_MACHINE = setOf("localhost", "127.0.0.1", "10.0.2.2")

        /** What stands between the last <answer> and its </answer>; without them, all of [text]. */
        fun finalAnswer(text: String): String {
            val opened = text.lastIndexOf(OPEN)
            return (if (opened < 0) text else text.substring(opened + OPEN.length).substringBefore(CLOSE)).trim()
        }
    }
}

/** [Transport] over the platform's own HTTP client. Redirects are not followed: the key stays with its host. */
class HttpTransport(private val timeoutMs: Int = 30_000) : Transport {
    override fun post(url: String, headers: Map<String, String>, body: String, onSent: () -> Unit): HttpReply {
        val connection = URI(url).toURL().openConnection() as HttpURLConnection
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
            val text = if (status in 200..299) read(connection) else ""
            return HttpReply(status, text)
        } finally {
            connection.disconnect()
        }
    }

    private fun read(connection: HttpURLConnection): String {
        val out = ByteArrayOutputStream()
        val buffer = ByteArray(1 shl 14)
        connection.inputStream.use { stream ->
            var count = stream.read(buffer)
            while (count >= 0) {
                out.write(buffer, 0, count)
                if (out.size() > MAX_REPLY) throw IOException("reply larger than $MAX_REPLY bytes")
                count = stream.read(buffer)
            }
        }
        return out.toString("UTF-8")
    }

    private companion object {
        const val MAX_REPLY = 1 shl 20
    }
}
