package ai.edgekit.core

import java.io.File
import java.nio.file.Files
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertTrue

/** A bundle is opened only when it is whole and unchanged. */
fun bundleTests(data: TestData): Tests = mapOf(
    "bundle: a whole one opens" to {
        val bundle = Bundle.open(makeBundle(data))
        assertEquals("model.onnx", bundle.artifact.name)
        assertEquals(listOf(647, 452, 451, 652, 459, 10), bundle.encode("6 5 -> 13").toList())
    },
    "bundle: every kind of damage is named before anything is loaded" to { damage(data) },
    "bundle: what Finder and Explorer leave does no harm" to {
        val folder = makeBundle(data)
        for (name in listOf(".DS_Store", "Thumbs.db", "desktop.ini")) File(folder, name).writeText("x")
        Bundle.open(folder)
        File(folder, "._model.onnx").writeText("x")
        assertTrue("._model.onnx is not in the manifest" in refusal { Bundle.open(folder) })
    },
    "bundle: a whole one is hashed once, until a file changes" to { hashedOnce(data) },
    "bundle: what it needs of memory is said before it is loaded" to {
        val facts = MODEL + mapOf("layers" to 30, "key_value_heads" to 3, "head_dim" to 64, "context_length" to 1024)
        val folder = makeBundle(data).also { writeManifest(it, mapOf("model" to facts)) }
        val need = MemoryNeed.of(BundleManifest.read(folder))
        assertEquals(listOf(8L, 2L * 30 * 3 * 64 * 1024 * 4), listOf(need.artifactBytes, need.cacheBytes))
        need.check(need.artifactBytes + need.cacheBytes)
        for ((recipe, bytes) in listOf(mapOf("compute" to "float16") to 2L, mapOf("quantize" to mapOf("cache" to "int8")) to 1L)) {
            writeManifest(folder, mapOf("model" to facts, "recipe" to recipe))
            assertEquals(2L * 30 * 3 * 64 * 1024 * bytes, MemoryNeed.of(BundleManifest.read(folder)).cacheBytes)
        }
        val told = refusal { need.check(40_000_000) }
        assertTrue("needs 48 MB (1 of weights, 48 for 1024 tokens), 40 MB are free" in told, told)
    },
    "bundle: sizes beyond what 64 bits hold are more than any device has" to {
        val claimed = mapOf("layers" to 65536, "key_value_heads" to 65536, "head_dim" to 16777216, "context_length" to 16777216)
        val entry = mapOf("sha256" to "0".repeat(64), "size" to (1L shl 48))
        val files = (1..33_000).associate { "m$it" to entry }
        val folder = makeBundle(data).also { writeManifest(it, mapOf("model" to MODEL + claimed)) }
        assertTrue("too large" in refusal { MemoryNeed.of(BundleManifest.read(folder)).check(1L shl 40) })
        writeManifest(folder, mapOf("artifact" to "m", "files" to files))
        assertTrue("too large" in refusal { MemoryNeed.of(BundleManifest.read(folder)).check(1L shl 40) })
    },
    "bundle: a runtime older than its oldest is refused before it loads" to {
        val needs = RuntimeFacts("onnxruntime", "1.31.1", oldest = "1.23")
        for (version in listOf("1.23.0", "1.24.2", "2.0", "as linked")) needs.check(RuntimeFacts("onnxruntime", version))
        for (version in listOf("1.9.3", "1.22", "0.9")) {
            val told = refused { needs.check(RuntimeFacts("onnxruntime", version)) }
            assertEquals(ErrorKind.UNSUPPORTED, told?.kind)
            assertTrue("$version, the bundle needs 1.23 or newer" in told!!.line)
        }
        RuntimeFacts("onnxruntime", "1.31.1").check(RuntimeFacts("onnxruntime", "1.2"))
    },
    "bundle: names that leave the folder are refused" to {
        val bad = listOf("../x", "/x", "a/../x", "./x", "a//b", "a/", "", ".", "..", "C:/x", "a\\b", "a\u0000", "a/./b")
        for (name in bad) assertFalse(BundleManifest.isInside(name), name)
        for (name in listOf("x", "a/b.c", "..x", "a/b:c")) assertTrue(BundleManifest.isInside(name), name)
    },
    "bundle: routing.json with faults is refused by name" to { routingFaults() },
)

private fun hashedOnce(data: TestData) {
    val folder = makeBundle(data)
    val memory = CheckMemory(File(folder.parentFile, "${folder.name}.checked").apply { deleteOnExit() })
    val model = File(folder, "model.onnx")
    val long = System.currentTimeMillis() - 60_000
    for (file in folder.listFiles()!!) file.setLastModified(long)
    Bundle.open(folder, memory)
    // Other bytes under the same size and time: what a look at these cannot see, and a hash would.
    model.writeText("no modem")
    model.setLastModified(long)
    Bundle.open(folder, memory)
    assertTrue("has changed" in refusal { Bundle.open(folder) })
    model.setLastModified(long + 1000)
    assertTrue("has changed" in refusal { Bundle.open(folder, memory) })
    model.writeText("no model")
    Bundle.open(folder, memory) // just written: whole, but not vouched for
    model.writeText("no modem")
    assertTrue("has changed" in refusal { Bundle.open(folder, memory) })
}

private fun damage(data: TestData) {
    fun message(change: (File) -> Unit): String {
        val folder = makeBundle(data).also(change)
        return refusal { Bundle.open(folder) }
    }
    assertTrue("model.onnx has changed" in message { File(it, "model.onnx").writeText("no modem") })
    assertTrue("model.onnx has 9 bytes instead of 8" in message { File(it, "model.onnx").writeText("no models") })
    assertTrue("routing.json is missing" in message { File(it, "routing.json").delete() })
    assertTrue("more.bin is not in the manifest" in message { File(it, "more.bin").writeText("") })
    assertTrue("the manifest lacks m.pte" in message { writeManifest(it, mapOf("artifact" to "m.pte")) })
    assertTrue("It has no manifest.json" in message { File(it, "manifest.json").delete() })
    assertTrue("newer bundle" in message { writeManifest(it, mapOf("version" to 2)) })
    assertTrue("format: not edgekit-bundle" in message { writeManifest(it, mapOf("format" to "zip")) })
    assertTrue("target" in message { writeManifest(it, mapOf("target" to "tflite")) })
    assertTrue("unreadable manifest" in message { File(it, "manifest.json").writeText("{") })
    assertTrue("outside the bundle: \"../model\"" in message { writeManifest(it, mapOf("artifact" to "../model")) })
    val linked = message { folder ->
        val other = File(folder.parentFile, "${folder.name}-other").apply { writeText("no model"); deleteOnExit() }
        File(folder, "model.onnx").delete()
        Files.createSymbolicLink(File(folder, "model.onnx").toPath(), other.toPath())
    }
    assertTrue("model.onnx is a link" in linked, linked)
    val tiny = message {
        writeManifest(it, mapOf("model" to MODEL + mapOf("vocab_size" to 100)))
    }
    assertTrue("Token 660, but the model has 100" in tiny, tiny)
    val sentencePiece = message {
        File(it, "tokenizer.json").writeText("""{"model": {"type": "Unigram", "vocab": []}}""")
        writeManifest(it)
    }
    assertTrue("unusable tokenizer" in sentencePiece, sentencePiece)
    assertTrue("bad conformance case" in refusal { Bundle.open(makeBundle(data, listOf("{}"))).conformance() })
}

private fun routingFaults() {
    val good = """{"marker": {"text": "<c>", "token_ids": [[1]]}, "stop_token_ids": [2], "max_new_tokens": 8}"""
    val spec = RoutingSpec.of(JsonFields.of(Json.parse(good)))
    assertEquals(listOf("{prompt}", 0.0, Route.CLOUD), listOf(spec.promptTemplate, spec.markerBias, spec.onNoAnswer))
    val faults = mapOf(
        "newer" to good.replace("{\"marker\"", "{\"version\": 99, \"marker\""),
        "surprise" to good.replace("{\"marker\"", "{\"surprise\": 2, \"marker\""),
        "token_ids" to good.replace("[[1]]", "[[]]"),
        "marker.token_ids" to good.replace("[[1]]", "[1]"),
        "max_new_tokens" to good.replace("8", "0"),
        "stop_token_ids" to good.replace("[2]", "[-2]"),
        "{prompt}" to good.replace("8}", "8, \"prompt_template\": \"x\"}"),
        "unknown route" to good.replace("8}", "8, \"on_no_answer\": \"both\"}"),
    )
    for ((part, text) in faults) {
        val message = refusal { RoutingSpec.of(JsonFields.of(Json.parse(text))) }
        assertTrue(part in message, message)
    }
}
