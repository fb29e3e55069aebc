package ai.edgekit.demo

import ai.edgekit.core.Bundle
import ai.edgekit.core.EdgekitException
import ai.edgekit.core.Json
import ai.edgekit.core.JsonFields
import ai.edgekit.core.PhoneModel
import ai.edgekit.core.RuntimeFacts
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** The runtime's place: answers with the logits that render.py recorded of a bundle's artifact, and with nothing else. */
open class RecordedModel(bundle: Bundle) : PhoneModel {
    private val artifact = bundle.artifact
    override val contextLength = bundle.manifest.model.contextLength
    private val fields = JsonFields.of(Json.parse(File(folder, "logits.json").readText()))
    private val size = fields.count("vocab_size")
    private val rows = ByteBuffer.wrap(File(folder, "logits.f32").readBytes())
        .order(ByteOrder.LITTLE_ENDIAN).asFloatBuffer()
    private val cases = fields.list("cases").map { JsonFields.of(it) }.associateBy { it.tokenIds("prompt_token_ids") }
    private var tokens = emptyList<Int>()
    private var first = 0
    private var at = 0

    override val runtime = RuntimeFacts(fields.text("runtime"), fields.text("runtime_version"))

    override fun reset() {
        at = 0
    }

    override fun prefill(tokenIds: IntArray): FloatArray {
        val case = cases[tokenIds.toList()] ?: throw EdgekitException("no recording: ${artifact.name}. Another prompt.")
        tokens = case.tokenIds("token_ids")
        first = case.index("first_row")
        return row()
    }

    /** The next row, if [tokenId] is the token that was fed when it was recorded. */
    override fun decode(tokenId: Int): FloatArray {
        if (tokens.getOrNull(at++) != tokenId) throw EdgekitException("no recording: token $tokenId at $at. Another.")
        return row()
    }

    private fun row(): FloatArray {
        rows.position((first + at) * size)
        return FloatArray(size).also(rows::get)
    }

    override fun close() = Unit

    companion object {
        lateinit var folder: File
    }
}
