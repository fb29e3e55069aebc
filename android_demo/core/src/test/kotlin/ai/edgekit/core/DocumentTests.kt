package ai.edgekit.core

import java.io.File
import java.nio.file.Files
import java.util.Base64
import kotlin.test.assertEquals

/** documents.json: what Python, Kotlin and Swift must take or refuse alike. */
fun documentTests(data: TestData): Tests {
    val shared = readFields(File(data.repository, "tests/conformance/documents.json"))
    val documents = shared.list("documents").map { JsonFields.of(it) }.groupBy { it.text("read") }
    return documents.entries.associate { (read, own) ->
        "documents: every $read is taken or refused as all ports do" to {
            assertEquals(emptyList(), own.mapNotNull { judge(read, it) })
        }
    } + ("documents: the kinds of error are the shared ones" to {
        assertEquals(shared.list("error_kinds"), ErrorKind.entries.map { it.word })
    })
}

/** What is wrong with this port's verdict on [document]; null if nothing is. */
private fun judge(read: String, document: JsonFields): String? {
    val bytes = document.textOrNull("base64")?.let(Base64.getDecoder()::decode) ?: document.text("text").toByteArray()
    val folder = Files.createTempDirectory("edgekit-document").toFile()
    val error = refused {
        when (read) {
            "json" -> {
                val value = Json.parse(bytes)
                document.textOrNull("value")?.let { check(value == Json.parse(it)) { "read as $value" } }
            }
            "routing" -> RoutingSpec.load(written(folder, "routing.json", bytes))
            "manifest" -> BundleManifest.read(written(folder, BundleManifest.NAME, bytes).parentFile)
            "conformance" -> ConformanceCase.readAll(written(folder, ConformanceCase.FILE, bytes))
            "tokenizer" -> Tokenizer(TokenizerFile.read(bytes.inputStream()))
            "logits" -> DecodeSession(testRouting(), Vocabulary.of((0..2).associateWith { ByteArray(1) }), 1, 8).advance(logits(bytes))
            "budget" -> (Json.parse(bytes) as List<*>).let { (share, window) ->
                CloudBudget((share as Number).toDouble(), (window as Number).toInt())
            }
            else -> throw AssertionError("no reader of $read")
        }
    }
    folder.deleteRecursively()
    val verdict = error?.kind?.word ?: "taken"
    val expected = document.text("verdict")
    return if (verdict == expected) null else "${document.text("name")}: $verdict instead of $expected. ${error?.line}"
}

/** Numbers, with those that JSON has not as texts. */
private fun logits(bytes: ByteArray): FloatArray =
    (Json.parse(bytes) as List<*>).map { (it as? Number)?.toFloat() ?: NO_JSON.getValue(it as String) }.toFloatArray()

private val NO_JSON =
    mapOf("nan" to Float.NaN, "inf" to Float.POSITIVE_INFINITY, "-inf" to Float.NEGATIVE_INFINITY)

private fun written(folder: File, name: String, bytes: ByteArray): File = File(folder, name).apply { writeBytes(bytes) }
