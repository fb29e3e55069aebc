package ai.edgekit.core

import com.sun.net.httpserver.HttpServer
import java.net.InetAddress
import java.net.InetSocketAddress
import java.util.concurrent.atomic.AtomicReference
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertTrue

private const val KEY = "sk-secret-key"

/** The cloud client against a real HTTP server on this machine. */
fun cloudTests(): Tests = mapOf(
    "cloud: asks as an OpenAI-compatible server expects and takes the answer" to {
        serving(200, """{"choices": [{"message": {"content": "so <answer> 3 + 4 </answer>."}}]}""") { url, request ->
            assertEquals("3 + 4", ask(CloudClient("m", "$url/v1", KEY), "say \"é\""))
            val (path, authorization, body) = request.get()
            assertEquals(listOf("/v1/chat/completions", "Bearer $KEY"), listOf(path, authorization))
            val messages = JsonFields.of(Json.parse(body)).list("messages").map { JsonFields.of(it) }
            assertEquals(listOf("system", "user"), messages.map { it.text("role") })
            assertEquals("say \"é\"", messages[1].text("content"))
        }
    },
    "cloud: every failure is one line that does not show the key" to {
        val bad = listOf(
            Triple(500, "oops $KEY", "status 500"), Triple(302, "", "status 302"),
            Triple(200, "<html>", "cannot be read"),
            Triple(200, """{"choices": []}""", "cannot be read"),
            Triple(200, """{"choices": [{"message": {"content": " "}}]}""", "holds no text"),
            Triple(200, """{"choices": [{"message": {"content": null}}]}""", "holds no text"),
        )
        for ((status, body, why) in bad) {
            serving(status, body) { url, _ -> checkFailure(CloudClient("m", "$url/$KEY/v1", KEY), why) }
        }
        checkFailure(CloudClient("m", "http://127.0.0.1:9", KEY), "cannot be reached")
        serving(200, "", delayMs = 2000) { url, _ ->
            checkFailure(CloudClient("m", url, KEY, HttpTransport(timeoutMs = 200)), "did not answer in time")
        }
    },
    "cloud: a refused key, an answer too late and no network are told apart" to {
        for ((status, kind) in listOf(401 to ErrorKind.UNAUTHORIZED, 403 to ErrorKind.UNAUTHORIZED,
            511 to ErrorKind.OFFLINE, 302 to ErrorKind.OFFLINE, 429 to ErrorKind.CLOUD_FAILED)) {
            serving(status, "") { url, _ -> assertEquals(kind, refused { ask(CloudClient("m", url, KEY), "x") }?.kind) }
        }
        assertEquals(ErrorKind.OFFLINE, refused { ask(CloudClient("m", "http://127.0.0.1:9", KEY), "x") }?.kind)
        serving(200, "", delayMs = 2000) { url, _ ->
            val client = CloudClient("m", url, KEY, HttpTransport(timeoutMs = 200))
            assertEquals(ErrorKind.TIMED_OUT, refused { ask(client, "x") }?.kind)
        }
    },
    "cloud: what the server says is shown as it comes, and a stream that breaks off is no answer" to {
        val events = listOf("so ", "<answer> 3 ", "+ 4</answer>").map {
            """data: {"choices": [{"delta": {"content": "$it"}}]}"""
        }
        val ends = listOf("""data: {"choices": [], "usage": {}}""", "data: [DONE]", "")
        serving(200, (listOf(": a comment") + events + ends).joinToString("\r\n\r\n")) { url, request ->
            val pieces = ArrayList<String>()
            val client = CloudClient("m", url, KEY)
            assertEquals("3 + 4", client.send(client.request("x"), {}, pieces::add))
            assertEquals(listOf("so ", "<answer> 3 ", "+ 4</answer>"), pieces)
            assertTrue(JsonFields.of(Json.parse(request.get().third)).flag("stream"))
        }
        for ((body, why) in listOf("data: {\n\n" to "cannot be read", "data: [DONE]\n\n" to "holds no text")) {
            serving(200, body) { url, _ -> checkFailure(CloudClient("m", url, KEY), why) }
        }
        serving(200, events.joinToString("\n")) { url, _ ->
            val hasty = CloudClient("m", url, KEY, HttpTransport(wholeMs = 0))
            assertEquals(ErrorKind.TIMED_OUT, refused { ask(hasty, "x") }?.kind)
        }
    },
    "cloud: a key that no header can carry is refused without being shown" to {
        for (key in listOf("sk-secr\u00e9t", "sk-secret\n", "sk secret", "\u2028sk-secret")) {
            assertFalse("secr" in refusal { CloudClient("m", "https://example.com/v1", key) })
        }
        val refusing = Transport { _, headers, _, _, _ -> throw IllegalArgumentException(headers.toString()) }
        checkFailure(CloudClient("m", "https://example.com/v1", KEY, refusing), "cannot be sent")
    },
    "cloud: an address that would send the key in the clear is refused" to {
        for (url in listOf("http://example.com/v1", "ftp://example.com", "example.com", "", "https://", "http://a b")) {
            assertTrue("https" in refusal { CloudClient("m", url, KEY) }, url)
        }
        CloudClient("m", "https://example.com/v1", KEY)
    },
)

private fun ask(client: CloudClient, prompt: String) = client.send(client.request(prompt), {}, {})

private fun checkFailure(client: CloudClient, why: String) {
    val message = refusal { ask(client, "x") }
    assertTrue(why in message, message)
    assertFalse(KEY in message, message)
}

private typealias Request = Triple<String, String?, String>

/** Run [block] against a server on a free port that gives every request the same reply. */
private fun serving(
    status: Int,
    body: String,
    delayMs: Long = 0,
    block: (String, AtomicReference<Request>) -> Unit,
) {
    val seen = AtomicReference<Request>()
    val server = HttpServer.create(InetSocketAddress(InetAddress.getLoopbackAddress(), 0), 0)
    server.createContext("/") { exchange ->
        val sent = exchange.requestBody.readBytes().decodeToString()
        seen.set(Request(exchange.requestURI.path, exchange.requestHeaders.getFirst("Authorization"), sent))
        Thread.sleep(delayMs)
        val bytes = body.toByteArray()
        if (status == 302) exchange.responseHeaders.add("Location", "http://127.0.0.1:9/elsewhere")
        exchange.sendResponseHeaders(status, if (bytes.isEmpty()) -1 else bytes.size.toLong())
        exchange.responseBody.use { it.write(bytes) }
    }
    server.start()
    try {
        block("http://127.0.0.1:${server.address.port}", seen)
    } finally {
        server.stop(0)
    }
}
