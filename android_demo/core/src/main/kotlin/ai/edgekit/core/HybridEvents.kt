package ai.edgekit.core

import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.buffer
import kotlinx.coroutines.flow.channelFlow
import kotlinx.coroutines.flow.filterIsInstance
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.flowOn
import kotlinx.coroutines.isActive

/** What happens while a prompt is answered. */
public sealed interface HybridEvent {
    /** More visible text. */
    public data class Text(val text: String) : HybridEvent

    /** What was shown so far is void: another answer begins. */
    public data object Restart : HybridEvent

    /** The end. */
    public data class Answered(val answer: HybridAnswer) : HybridEvent
}

/**
 * [prompt] answered as [HybridSession.ask] does, on a thread of its own; whoever stops collecting stops the prompt.
 *
 * The flow fails with [EdgekitException].
 */
public fun HybridSession.events(prompt: String): Flow<HybridEvent> = channelFlow {
    val listener = object : HybridListener {
        override fun onText(text: String) {
            trySend(HybridEvent.Text(text))
        }

        override fun onRestart() {
            trySend(HybridEvent.Restart)
        }
    }
    val answer = try {
        ask(prompt, listener, StopSignal { !isActive })
    } catch (failure: EdgekitException) {
        ensureActive() // stopped by whoever stopped collecting: for them nothing has failed
        throw failure
    }
    send(HybridEvent.Answered(answer))
}.buffer(Channel.UNLIMITED).flowOn(Dispatchers.IO)

/** The answer to [prompt], once it is whole. Throws [EdgekitException]; cancelled, the prompt is stopped. */
public suspend fun HybridSession.answer(prompt: String): HybridAnswer =
    events(prompt).filterIsInstance<HybridEvent.Answered>().first().answer
