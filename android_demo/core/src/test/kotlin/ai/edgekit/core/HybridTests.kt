package ai.edgekit.core

import kotlin.test.assertEquals
import kotlin.test.assertNull
import kotlin.test.assertTrue

private const val MARKER = 660
private const val STOP = 661
private const val OPEN = 658
private const val CLOSE = 659
private const val NINE = 57

/** Wants to call, and without the marker answers "9". */
private fun caller() = ScriptedModel(
    listOf(mapOf(MARKER to 5f, OPEN to 1f), mapOf(NINE to 1f), mapOf(CLOSE to 1f), mapOf(STOP to 1f)), 672,
)

/** Answers "9" by itself. */
private fun keeper() = ScriptedModel(listOf(mapOf(OPEN to 5f), mapOf(NINE to 1f), mapOf(CLOSE to 1f)), 672)

private class FakeCloud(private val reply: () -> String) : Cloud {
    override val name = "fake"
    val prompts = ArrayList<String>()

    override fun answer(prompt: String): String {
        prompts.add(prompt)
        return reply()
    }
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
    private val session = HybridSession(Bundle.open(makeBundle(data)), model, cloud, budget, { online }) {
        asked++
        Thread.sleep(thinksMs)
        consents
    }

    fun ask() = session.ask("6 5 -> 13", screen)
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
)

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
