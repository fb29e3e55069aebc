package ai.edgekit.core

/** One turn of a conversation; [role]: system or user. */
public data class Message(val role: String, val content: String)

/** Everything that leaves the phone, frozen: shown for consent, logged and sent as it is. */
public data class CloudRequest(val server: String, val model: String, val messages: List<Message>) {
    /** The user's words in it. */
    val prompt: String get() = messages.last().content

    /** What an OpenAI-compatible server is sent. */
    internal fun body(): Map<String, Any?> =
        mapOf(
            "model" to model,
            "messages" to messages.map { mapOf("role" to it.role, "content" to it.content) },
            "stream" to true,
        )
}

/** Who answers when the policy calls. */
public interface Cloud {
    public val name: String

    /** The request that would carry [prompt]. */
    public fun request(prompt: String): CloudRequest

    /**
     * The answer to [request], without delimiters. [onSent] is called once, before the first byte leaves; [onText]
     * gets what the server says as it comes, delimiters included, if it comes in pieces.
     *
     * Throws [EdgekitException]: OFFLINE, TIMED_OUT, UNAUTHORIZED or CLOUD_FAILED.
     */
    public fun send(request: CloudRequest, onSent: () -> Unit, onText: (String) -> Unit): String
}

/** Whether prompts may leave for a server. */
public enum class Consent { ASK, ALWAYS, NEVER }
