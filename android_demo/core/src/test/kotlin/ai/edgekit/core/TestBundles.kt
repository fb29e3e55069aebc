package ai.edgekit.core

import java.io.File
import java.nio.file.Files

/**
 * A whole bundle with the built-in policy's tokenizer and routing in a new folder, deleted when the tests
 * end. Its artifact is no model: these tests bring their own.
 */
fun makeBundle(data: TestData, cases: List<String> = emptyList()): File {
    val folder = Files.createTempDirectory("edgekit-bundle").toFile()
    Runtime.getRuntime().addShutdownHook(Thread { folder.deleteRecursively() })
    val policy = File(data.repository, "edgekit/policy/base")
    for (name in listOf("tokenizer.json", "routing.json")) File(policy, name).copyTo(File(folder, name))
    File(folder, "model.onnx").writeText("no model")
    File(folder, "conformance.jsonl").writeText(cases.joinToString("") { it + "\n" })
    writeManifest(folder)
    return folder
}

/** The model that a made-up bundle speaks of. */
val MODEL = mapOf(
    "vocab_size" to 672, "layers" to 1, "hidden_size" to 8, "parameters" to 1, "context_length" to 64,
    "prefill_chunk" to 16,
)

/** Describe [folder] as it is now in its manifest, with [changes] to the manifest's members. */
fun writeManifest(folder: File, changes: Map<String, Any?> = emptyMap()) {
    val files = folder.listFiles()!!.filter { it.name != BundleManifest.NAME }.sorted().associate {
        it.name to mapOf("sha256" to BundleManifest.sha256(it), "size" to it.length())
    }
    val manifest = mapOf(
        "format" to "edgekit-bundle", "version" to 1, "target" to "onnx", "artifact" to "model.onnx",
        "precision" to "int4", "recipe" to mapOf("name" to "test"),
        "model" to MODEL,
        "runtime" to mapOf("name" to "onnxruntime", "version" to "1.0"), "files" to files, "provenance" to emptyMap<String, Any?>(),
    )
    File(folder, BundleManifest.NAME).writeText(Json.write(manifest + changes))
}
