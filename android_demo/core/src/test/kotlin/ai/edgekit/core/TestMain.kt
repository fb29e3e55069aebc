package ai.edgekit.core

import java.io.File
import java.lang.management.ManagementFactory
import kotlin.system.exitProcess

/** A test's name and what it does; it throws when something does not hold. */
typealias Tests = Map<String, () -> Unit>

/**
 * Runs every test of the core, without a test framework, so that the same program runs under Gradle and on a
 * machine that has only a Kotlin compiler.
 *
 * Usage: TestMainKt REPOSITORY [FOLDER...], or TestMainKt --load TOKENIZER_JSON to measure opening one. Shared cases are read from REPOSITORY/tests/conformance and from
 * every FOLDER: decoder_cases*.json, decision_cases*.json, tokenizer_cases*.json, logits_cases*.json. Device reports are left in the first.
 */
fun main(arguments: Array<String>) {
    if (arguments[0] == "--load") return load(File(arguments[1]))
    val data = TestData(File(arguments[0]), arguments.drop(1).map(::File))
    val tests = decoderTests(data) + decisionTests(data) + tokenizerTests(data) + promptTests(data) + logitsTests(data) + bundleTests(data) +
        hybridTests(data) + cloudTests() + downloadTests(data) + selfTestTests(data) + jsonTests() + documentTests(data) + promptTrimTests(data)
    var failures = 0
    for ((name, test) in tests) {
        try {
            test()
            println("ok    $name")
        } catch (failure: Throwable) {
            failures++
            println("FAIL  $name\n      $failure")
            if (failure !is AssertionError) failure.printStackTrace(System.out)
        }
    }
    println("${tests.size} tests, $failures failed")
    exitProcess(if (failures == 0) 0 else 1)
}

/** Open [file], a tokenizer.json, and say what that took. */
private fun load(file: File) {
    val thread = ManagementFactory.getThreadMXBean()
    val begin = thread.currentThreadCpuTime
    val read = TokenizerFile.read(file)
    val opened = listOf(Tokenizer(read), Vocabulary.of(read, testRouting()))
    val seconds = (thread.currentThreadCpuTime - begin) / 1e9
    System.gc()
    val heap = Runtime.getRuntime().let { it.totalMemory() - it.freeMemory() } / 1e6
    println("%.2f s of processor time, %.0f MB of heap: %s".format(seconds, heap, file))
    check(opened.isNotEmpty()) // it is on the heap until here
}

/** Routing data like any. */
fun testRouting(): RoutingSpec = RoutingSpec.of(
    JsonFields.of(
        Json.parse("""{"marker": {"text": "<c>", "token_ids": [[1]]}, "stop_token_ids": [2], "max_new_tokens": 8}"""),
    ),
)

/** Where the shared cases lie. */
class TestData(val repository: File, private val extra: List<File>) {
    private val folders = listOf(File(repository, "tests/conformance")) + extra

    /** Every file of that kind; each name once, for a test's name. */
    fun files(prefix: String): List<File> = folders.flatMap { folder ->
        folder.listFiles { file -> file.name.startsWith(prefix) && file.name.endsWith(".json") }!!.sorted()
    }

    /** The bundles that `make demo` exported, if it ran here. */
    val bundles: List<File> = File(repository, "out/demo").listFiles().orEmpty()
        .filter { File(it, BundleManifest.NAME).isFile }.sorted()

    /** Leave [text] for whoever started the tests with a folder of their own. */
    fun leave(name: String, text: String) {
        extra.firstOrNull()?.let { File(it, name).writeText(text) }
    }

    /** A file named in the case file [from], relative to the repository or to it; null if there is none. */
    fun find(path: String, from: File): File? =
        listOf(File(path), File(repository, path), File(from.parentFile, path)).firstOrNull { it.isFile }
}

/** Fields of a JSON file. */
fun readFields(file: File): JsonFields = JsonFields.of(file.inputStream().use(Json::parse))

/** The one-line error that [block] must raise. */
fun refusal(block: () -> Unit): String = refused(block)?.line ?: throw AssertionError("nothing was refused")

/** The error of one line that [block] raises; null if it raises none. */
fun refused(block: () -> Unit): EdgekitException? = try {
    block()
    null
} catch (error: EdgekitException) {
    error.also { check('\n' !in it.line) { "an error of more than one line: ${it.line}" } }
}
