package ai.edgekit.core

import java.io.ByteArrayOutputStream
import java.io.IOException
import java.net.HttpURLConnection
import java.net.SocketTimeoutException
import java.net.URI
import java.net.URISyntaxException

/** Who answers when the policy calls. */
interface Cloud {
    val name: String

    /** The answer to [prompt], without delimiters. Throws [EdgekitException] if it cannot be had. */
    fun answer(prompt: String): String
}

/** What an HTTP server replied. */
class HttpReply(val status: Int, val body: String)

/** Sends one POST request. Throws [IOException] if no reply comes. */
fun interface Transport {
    fun post(url: String, headers: Map<String, String>, body: String): HttpReply
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
    }

    override fun answer(prompt: String): String {
        val request = mapOf(
            "model" to model,
            "messages" to listOf(
                mapOf("role" to "system", "content" to INSTRUCTION),
                mapOf("role" to "user", "content" to prompt),
            ),
        )
        val headers = mapOf("Content-Type" to "application/json", "Authorization" to "Bearer $key")
        val reply = try {
            transport.post(baseUrl.trimEnd('/') + "/chat/completions", headers, Json.write(request))
        } catch (_: SocketTimeoutException) {
            throw failure("it did not answer in time")
        } catch (_: IOException) {
            throw failure("it cannot be reached")
        }
        if (reply.status !in 200..299) throw failure("it answered with status ${reply.status}")
        val text = content(reply.body)
        if (text.isNullOrBlank()) throw failure("its reply holds no text")
        return finalAnswer(text)
    }

    private fun content(body: String): String? = try {
        val choice = JsonFields.of(JsonFields.of(Json.parse(body)).list("choices").firstOrNull(), "choices.0")
        choice.fields("message").textOrNull("content")
    } catch (_: EdgekitException) {
        throw failure("its reply cannot be read")
    }

    private fun failure(why: String): EdgekitException {
        val line = "cloud failed: $model at $baseUrl. $why. Check the address, the model's name and the key."
        return EdgekitException(if (key.isEmpty()) line else line.replace(key, "***"))
    }

    companion object {
        const val INSTRUCTION =
            "Solve the task. End with your final answer alone between <answer> and </answer>."
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
    override fun post(url: String, headers: Map<String, String>, body: String): HttpReply {
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
