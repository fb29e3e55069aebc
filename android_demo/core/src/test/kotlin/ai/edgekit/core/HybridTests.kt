package ai.edgekit.core

import kotlinx.coroutines.flow.first
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import java.util.concurrent.atomic.AtomicBoolean
import kotlin.test.assertEquals
import kotlin.test.assertNull
import kotlin.test.assertTrue

private const val MARKER = 660
private const val STOP = 661
private const val OPEN = 658
private const val CLOSE = 659
private const val NINE = 57
private const val PATIENCE_MS = 60_000L

/** Wants to call, and without the marker answers "9". */
private fun caller() = ScriptedModel(
    listOf(mapOf(MARKER to 5f, OPEN to 1f), mapOf(NINE to 1f), mapOf(CLOSE to 1f), mapOf(STOP to 1f)), 672,
)

/** Answers "9" by itself. */
private fun keeper() = ScriptedModel(listOf(mapOf(OPEN to 5f), mapOf(NINE to 1f), mapOf(CLOSE to 1f)), 672)

private class FakeCloud(private val streams: Boolean = false, private val reply: () -> String) : Cloud {
    override val name = "fake"
    val prompts = ArrayList<String>()

    override fun request(prompt: String) = CloudRequest("https://fake", "fake", listOf(Message("user", prompt)))

    override fun send(request: CloudRequest, onSent: () -> Unit, onText: (String) -> Unit): String {
        onSent()
        prompts.add(request.prompt)
        return reply().also { text -> if (streams) text.forEach { onText(it.toString()) } }
    }
}

/** A model whose every step is [step]. */
private class Broken(private val step: () -> FloatArray) : StepModel {
    override val contextLength = 64

    override fun reset() = Unit

    override fun prefill(tokenIds: IntArray) = step()

    override fun decode(tokenId: Int) = step()
}

/** What the user would see. */
private class Screen : HybridListener {
    var text = ""
    var restarts = 0

    override fun onText(text: String) {
        this.text += text
    }

    override fun onRestart() {
        text = ""
        restarts++
    }
}

private class Scene(data: TestData, model: StepModel, val cloud: FakeCloud?, share: Double = 1.0) {
    val screen = Screen()
    var online = true
    var consents = true
    var thinksMs = 0L
    var asked = 0
    val budget = CloudBudget(share, 5)
    val logged = ArrayList<CloudRequest>()
    val shown = ArrayList<CloudRequest>()
    var rules = HandOffRules(log = logged::add)
    private val bundle = Bundle.open(makeBundle(data))
    private val session by lazy {
        HybridSession(bundle, model, cloud, budget, rules, { online }) { request ->
            shown.add(request)
            asked++
            Thread.sleep(thinksMs)
            consents
        }
    }

    fun ask(prompt: String = "6 5 -> 13", stop: StopSignal = StopSignal()) = session.ask(prompt, screen, stop)
}

/** Device or cloud, and why. */
fun hybridTests(data: TestData): Tests = mapOf(
    "hybrid: an answer stays on the phone" to {
        val scene = Scene(data, keeper(), FakeCloud { "7" })
        val answer = scene.ask()
        assertEquals(listOf(Route.LOCAL, "answer", "9"), listOf(answer.route, answer.reason, answer.answer))
        assertEquals(0, scene.cloud!!.prompts.size + scene.asked + scene.screen.restarts)
        assertEquals("<answer>9</answer>", scene.screen.text)
        assertNull(answer.cloudMs)
    },
    "hybrid: a call reaches the cloud once, with the user's own words, after consent" to {
        val scene = Scene(data, caller(), FakeCloud { "7" })
        val answer = scene.ask()
        assertEquals(listOf(Route.CLOUD, "marker", "7"), listOf(answer.route, answer.reason, answer.answer))
        assertEquals(listOf("6 5 -> 13"), scene.cloud!!.prompts)
        assertEquals(listOf(1, 1), listOf(scene.asked, answer.generatedTokens))
        assertEquals("7", scene.screen.text)
        assertTrue(answer.cloudMs != null && answer.notice == null)
    },
    "hybrid: a cloud's words are shown as they come, in place of the device's, until the prompt is stopped" to {
        val scene = Scene(data, caller(), FakeCloud(streams = true) { "seven" })
        assertEquals("seven", scene.ask().answer)
        assertEquals(listOf("seven", 1), listOf(scene.screen.text, scene.screen.restarts))
        val stop = StopSignal()
        val stopped = Scene(data, caller(), FakeCloud(streams = true) { "7".also { stop.stop() } })
        assertEquals(ErrorKind.STOPPED, refused { stopped.ask(stop = stop) }?.kind)
        assertEquals(listOf(true), stopped.budget.history)
    },
    "hybrid: a prompt is stopped while the cloud is silent, and before the user is asked in vain" to {
        val stop = StopSignal()
        val isOver = CountDownLatch(1)
        val silent = FakeCloud {
            stop.stop()
            isOver.await()
            "7"
        }
        val scene = Scene(data, caller(), silent)
        assertEquals(ErrorKind.STOPPED, refused { scene.ask(stop = stop) }?.kind)
        isOver.countDown()
        assertEquals(listOf(true), scene.budget.history)
        val early = StopSignal()
        val model = object : StepModel by caller() {
            override fun prefill(tokenIds: IntArray): FloatArray {
                early.stop()
                return FloatArray(672).also { it[MARKER] = 5f }
            }
        }
        val unasked = Scene(data, model, FakeCloud { "7" })
        assertEquals(ErrorKind.STOPPED, refused { unasked.ask(stop = early) }?.kind)
        assertEquals(listOf<Any>(0, listOf(false)), listOf(unasked.asked, unasked.budget.history))
    },
    "hybrid: a prompt is a flow of events, stopped by whoever stops collecting" to { flows(data) },
    "hybrid: the lines of the guide answer a prompt" to { runBlocking { guide(makeBundle(data)) } },
    "hybrid: a long prompt goes in by pieces, between which it can be stopped" to {
        val taken = ArrayList<Int>()
        val stop = StopSignal()
        val model = object : StepModel by keeper() {
            override fun prefill(tokenIds: IntArray): FloatArray {
                taken.add(tokenIds.size)
                if (taken.size == 4) stop.stop()
                return FloatArray(672)
            }
        }
        GuardedModel(model, 672, stop, chunk = 10).prefill(IntArray(25))
        assertEquals(listOf(10, 10, 5), taken)
        assertEquals(ErrorKind.STOPPED, refused { GuardedModel(model, 672, stop, chunk = 10).prefill(IntArray(20)) }?.kind)
        assertEquals(4, taken.size)
    },
    "hybrid: the device answers when the cloud may not or cannot" to { fallbacks(data) },
    "hybrid: the device's time is not the user's, who thinks before sending or not" to {
        for (sends in listOf(true, false)) {
            val scene = Scene(data, caller(), FakeCloud { "7" }).apply { consents = sends }
            scene.thinksMs = 1500
            val answer = scene.ask()
            assertTrue(answer.localMs < 1500, "${answer.localMs} ms")
        }
    },
    "hybrid: the budget holds over any window" to { budgetTest(data) },
    "hybrid: what is shown, logged and sent is one request, without what must not leave" to {
        val scene = Scene(data, caller(), FakeCloud { "7" })
        scene.rules = HandOffRules(redact = { it.replace("6", "[1]") }, log = scene.logged::add)
        scene.ask()
        assertEquals(scene.shown, scene.logged)
        assertEquals(listOf("[1] 5 -> 13"), scene.cloud!!.prompts)
        val unlogged = Scene(data, caller(), FakeCloud { "7" })
        unlogged.rules = HandOffRules(log = { throw java.io.IOException("disk full") })
        assertEquals(listOf("offline", "9"), unlogged.ask().let { listOf(it.reason, it.answer) })
        assertEquals(0, unlogged.cloud!!.prompts.size)
    },
    "hybrid: the log keeps what left, word for word" to {
        val file = java.io.File.createTempFile("edgekit", ".jsonl").apply { deleteOnExit() }
        val scene = Scene(data, caller(), FakeCloud { "7" }).apply { rules = HandOffRules(log = HandOffLog(file)::append) }
        repeat(2) { scene.ask() }
        val lines = file.readLines().map { JsonFields.of(Json.parse(it)) }
        assertEquals(List(2) { "https://fake" }, lines.map { it.text("server") })
        assertEquals("6 5 -> 13", JsonFields.of(lines[0].list("messages").last()).text("content"))
    },
    "hybrid: consent is asked for, or given or refused once for all" to {
        val always = Scene(data, caller(), FakeCloud { "7" }).apply { rules = HandOffRules(Consent.ALWAYS) }
        assertEquals(listOf(Route.CLOUD, 0), listOf(always.ask().route, always.asked))
        val never = Scene(data, caller(), FakeCloud { "7" }).apply { rules = HandOffRules(Consent.NEVER) }
        assertEquals(listOf("consent", 0, 0), listOf(never.ask().reason, never.asked, never.cloud!!.prompts.size))
    },
    "hybrid: who does not answer in time refuses, and the question is taken back, as it is when the prompt is stopped" to {
        for (stops in listOf(false, true)) {
            val stop = StopSignal()
            val isBack = CountDownLatch(1)
            val wasAsked = AtomicBoolean() // not on a machine so busy that the thread starts too late
            val silent = { _: CloudRequest ->
                wasAsked.set(true)
                if (stops) stop.stop()
                try {
                    Thread.sleep(PATIENCE_MS)
                } catch (_: InterruptedException) {
                    isBack.countDown()
                }
                true
            }
            val rules = HandOffRules(consentMs = if (stops) PATIENCE_MS else 20)
            val cloud = FakeCloud { "7" }
            val session = HybridSession(Bundle.open(makeBundle(data)), caller(), cloud, CloudBudget(1.0), rules, { true }, silent)
            if (stops) {
                assertEquals(ErrorKind.STOPPED, refused { session.ask("6 5 -> 13", Screen(), stop) }?.kind)
            } else {
                val answer = session.ask("6 5 -> 13", Screen(), stop)
                assertEquals(listOf("consent", "9"), listOf(answer.reason, answer.answer))
                assertTrue("in time" in answer.notice!!, answer.notice)
            }
            assertTrue(!wasAsked.get() || isBack.await(PATIENCE_MS, TimeUnit.MILLISECONDS))
            assertEquals(0, cloud.prompts.size)
        }
    },
    "hybrid: only what left the phone is counted, and once" to {
        val unreached = object : Cloud {
            override val name = "unreached"

            override fun request(prompt: String) = CloudRequest("https://fake", "m", listOf(Message("user", prompt)))

            override fun send(request: CloudRequest, onSent: () -> Unit, onText: (String) -> Unit): String =
                throw EdgekitException("cloud failed: m. It cannot be reached.", ErrorKind.OFFLINE)
        }
        val budget = CloudBudget(1.0, 5)
        val session = HybridSession(Bundle.open(makeBundle(data)), caller(), unreached, budget, isOnline = { true }) { true }
        assertEquals(ErrorKind.OFFLINE, session.ask("6 5 -> 13", Screen()).failure)
        assertEquals(listOf(false), budget.history)
        val failing = Scene(data, caller(), FakeCloud { throw EdgekitException("it is down", ErrorKind.CLOUD_FAILED) })
        assertEquals(ErrorKind.CLOUD_FAILED, failing.ask().failure)
        assertEquals(listOf(true), failing.budget.history)
    },
    "hybrid: what the device cannot answer goes to the cloud, and without one is said in a line" to {
        val long = "1 ".repeat(100)
        assertEquals(listOf(Route.CLOUD, "too_long"), Scene(data, keeper(), FakeCloud { "7" }).ask(long).let { listOf(it.route, it.reason) })
        assertEquals(ErrorKind.TOO_LONG, refused { Scene(data, keeper(), null).ask(long) }?.kind)
        val broken: List<Pair<StepModel, ErrorKind>> = listOf(
            Broken { throw IllegalStateException("native\ncode") } to ErrorKind.DEVICE_FAILED,
            Broken { throw OutOfMemoryError() } to ErrorKind.DEVICE_FAILED,
            Broken { throw UnsatisfiedLinkError("no libonnxruntime.so") } to ErrorKind.DEVICE_FAILED,
            Broken { FloatArray(3) } to ErrorKind.BAD_LOGITS,
            Broken { FloatArray(672) { Float.NaN } } to ErrorKind.BAD_LOGITS,
        )
        for ((model, kind) in broken) {
            val handed = Scene(data, model, FakeCloud { "7" }).ask()
            assertEquals(listOf(Route.CLOUD, "device_failed", "7"), listOf(handed.route, handed.reason, handed.answer))
            assertEquals(kind, refused { Scene(data, model, null).ask() }?.kind)
        }
    },
    "hybrid: a prompt is stopped between two tokens, and a second one at a time is refused" to {
        val stop = StopSignal()
        val model = object : StepModel by keeper() {
            override fun prefill(tokenIds: IntArray): FloatArray {
                stop.stop()
                return FloatArray(672).also { it[OPEN] = 1f }
            }
        }
        assertEquals(ErrorKind.STOPPED, refused { Scene(data, model, FakeCloud { "7" }).ask(stop = stop) }?.kind)
        lateinit var scene: Scene
        val again = object : StepModel by keeper() {
            override fun prefill(tokenIds: IntArray): FloatArray {
                assertEquals(ErrorKind.BUSY, refused { scene.ask() }?.kind)
                return FloatArray(672).also { it[STOP] = 1f }
            }
        }
        scene = Scene(data, again, null)
        scene.ask()
    },
)

private fun flows(data: TestData) = runBlocking {
    val bundle = Bundle.open(makeBundle(data))
    val events = HybridSession(bundle, caller(), FakeCloud { "7" }, mayLeave = { true }).events("6 5 -> 13").toList()
    assertEquals(listOf(HybridEvent.Restart, HybridEvent.Text("7")), events.dropLast(1))
    assertEquals("7", (events.last() as HybridEvent.Answered).answer.answer)
    val kept = HybridSession(bundle, keeper())
    repeat(200) { assertTrue(kept.events("6 5 -> 13").first() is HybridEvent.Text) } // however the two threads race
    assertEquals("9", kept.answer("6 5 -> 13").answer) // the stopped one is not in its way
}

/** The guide's lines, a model of this test in the runtime's place. */
private suspend fun guide(folder: java.io.File) {
    fun OnnxStepModel(bundle: Bundle): StepModel = keeper().also { assertEquals("onnx", bundle.manifest.target) }
    // guide: begin
    val bundle = Bundle.open(folder)
    val session = HybridSession(bundle, OnnxStepModel(bundle))
    session.events("6 5 -> 13").collect { event ->
        when (event) {
            is HybridEvent.Text -> print(event.text)
            is HybridEvent.Restart -> println()
            is HybridEvent.Answered -> println("\n${event.answer.route}: ${event.answer.reason}")
        }
    }
    // guide: end
}

private fun fallbacks(data: TestData) {
    fun check(scene: Scene, reason: String, notice: String, prompts: Int, asked: Int) {
        val answer = scene.ask()
        assertEquals(listOf(Route.LOCAL, reason, "9"), listOf(answer.route, answer.reason, answer.answer))
        assertTrue(notice in answer.notice!!, answer.notice)
        assertEquals(listOf(prompts, asked), listOf(scene.cloud?.prompts?.size ?: 0, scene.asked))
        assertEquals("<answer>9</answer>", scene.screen.text)
        assertEquals(1 + 3, answer.generatedTokens)
        assertTrue(answer.markerMargin > 0)
    }
    check(Scene(data, caller(), null), "offline", "no cloud", 0, 0)
    check(Scene(data, caller(), FakeCloud { "7" }).apply { online = false }, "offline", "no network", 0, 0)
    check(Scene(data, caller(), FakeCloud { "7" }, share = 0.0), "budget", "budget spent", 0, 0)
    check(Scene(data, caller(), FakeCloud { "7" }).apply { consents = false }, "consent", "not sent", 0, 1)
    val broken = FakeCloud { throw EdgekitException("cloud failed: it is down. Reason. Wait.") }
    check(Scene(data, caller(), broken), "offline", "cloud failed", 1, 1)
}

private fun budgetTest(data: TestData) {
    val scene = Scene(data, caller(), FakeCloud { "7" }, share = 0.4)
    val routes = List(12) { scene.ask().route }
    for (begin in 0..routes.size - 5) {
        assertTrue(routes.subList(begin, begin + 5).count { it == Route.CLOUD } <= 2, "$routes")
    }
    assertEquals(6, routes.count { it == Route.CLOUD }, "$routes")
    assertEquals(3, CloudBudget(0.3, 10).allowed)
    val restored = CloudBudget(0.4, 5, scene.budget.history)
    assertEquals(scene.budget.left, restored.left)
    refusal { CloudBudget(1.5) }
}
