package ai.edgekit.core

import java.io.File
import java.io.InputStream
import java.util.BitSet

/**
 * A tokenizer.json, read once and in order: the vocabulary and the merges as tables, all else as [fields].
 *
 * It takes time and memory in proportion to the file. What edgekit has no bytes for, or does not know, is refused,
 * never approximated.
 */
public class TokenizerFile private constructor(
    internal val fields: JsonFields,
    internal val vocabulary: TokenTable,
    internal val merges: MergeTable,
) {
    /** Byte-level BPE, else SentencePiece BPE with byte fallback. */
    internal val isByteLevel: Boolean = steps("pre_tokenizer").any { it.text("type") == "ByteLevel" }

    /** Of an id given twice the last counts. */
    internal val addedTokens: List<AddedToken> = added(fields)
        .mapIndexed { at, value -> AddedToken.of(value, at) }
        .associateBy { it.id }.values.toList()

    /** Refuse ids that a model of [vocabSize] tokens does not have. */
    public fun fits(vocabSize: Int) {
        val largest = maxOf(vocabulary.largestId, addedTokens.maxOfOrNull { it.id } ?: TokenTable.NONE)
        if (largest >= vocabSize) {
            throw EdgekitException("token $largest, but the model has $vocabSize", ErrorKind.BAD_FIELD)
        }
    }

    /** The steps of the normalizer, pre-tokenizer or decoder, sequences opened. */
    internal fun steps(name: String): List<JsonFields> = open(fields.members[name], name)

    private fun open(value: Any?, name: String): List<JsonFields> {
        val step = JsonFields.of(value ?: return emptyList(), name)
        if (step.text("type") != "Sequence") return listOf(step)
        return step.list(INSIDE.getValue(name)).flatMap { inside ->
            open(inside ?: throw EdgekitException("$name: null in a sequence", ErrorKind.BAD_FIELD), name)
        }
    }

    /** The model's settings: its fields but for the vocabulary and the merges. */
    internal val model: JsonFields get() = fields.fields("model")

    private fun check() {
        val model = model
        if ((model.numberOrNull("dropout") ?: 0.0) != 0.0) unsupported("model.dropout: it is random")
        for (name in listOf("continuing_subword_prefix", "end_of_word_suffix")) {
            if (!model.textOrNull(name).isNullOrEmpty()) unsupported("model.$name")
        }
        val fallsBack = model.flagOrNull("byte_fallback") ?: false
        val hasBytes = (0..255).all { vocabulary.find("<0x%02X>".format(it)) != TokenTable.NONE }
        if (!isByteLevel && !(fallsBack && hasBytes)) unsupported("BPE without bytes for what it does not know")
        val decoders = if (isByteLevel) setOf("ByteLevel") else SENTENCEPIECE_DECODERS
        for (step in steps("decoder")) {
            if (step.text("type") !in decoders) unsupported("decoder.type: ${step.text("type")}")
            if (step.text("type") == "Replace" && "String" !in step.fields("pattern")) unsupported("decoder.pattern")
        }
    }

    public companion object {
        private const val IDS = 1L shl 24
        private val INSIDE =
            mapOf("normalizer" to "normalizers", "pre_tokenizer" to "pretokenizers", "decoder" to "decoders")
        private val SENTENCEPIECE_DECODERS = setOf("ByteFallback", "Fuse", "Metaspace", "Replace", "Strip")

        /** Read [file]. Throws [EdgekitException] naming what is wrong, or not known here. */
        public fun read(file: File): TokenizerFile = file.upTo(FileLimits.TOKENIZER).inputStream().use(::read)

        /** The same from [input]. */
        public fun read(input: InputStream): TokenizerFile {
            val reader = JsonReader(input)
            val vocabulary = TokenTable()
            val merges = MergeList()
            val fields = JsonFields.of(
                if (!reader.isObject()) reader.value() else reader.tree { name ->
                    if (name == "model" && reader.isObject()) readModel(reader, vocabulary, merges) else reader.value()
                },
            )
            reader.end()
            fields.onlyKnown(
                "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor",
                "decoder", "model",
            )
            val model = fields.fields("model")
            val type = model.textOrNull("type") ?: "BPE"
            if (type != "BPE") unsupported("model.type: $type")
            model.list("merges")
            model.fields("vocab")
            return TokenizerFile(fields, vocabulary, merges.resolve(vocabulary)).also { it.check() }
        }

        /** The model's fields, in which an empty object and list stand for the vocabulary and the merges. */
        private fun readModel(reader: JsonReader, vocabulary: TokenTable, merges: MergeList) = reader.tree { name ->
            when {
                name == "vocab" && reader.isObject() -> {
                    readVocabulary(reader, vocabulary)
                    emptyMap<String, Any?>()
                }
                name == "merges" && reader.isList() -> emptyList<Any?>().also { merges.read(reader) }
                else -> reader.value()
            }
        }

        private fun added(fields: JsonFields) =
            if ("added_tokens" in fields) fields.list("added_tokens") else emptyList()

        private fun readVocabulary(reader: JsonReader, vocabulary: TokenTable) {
            val seen = BitSet()
            reader.members { text ->
                val id = (reader.value() as? Long)?.takeIf { it in 0 until IDS }?.toInt()
                    ?: throw EdgekitException("model.vocab: an id that is none", ErrorKind.BAD_FIELD)
                if (!vocabulary.add(text, id)) throw EdgekitException("model.vocab: a key twice", ErrorKind.NOT_JSON)
                if (seen[id]) throw EdgekitException("model.vocab: id $id twice", ErrorKind.BAD_FIELD)
                seen.set(id)
            }
        }
    }
}

/** Merges as they stand in the file, each two texts; in older files one text with a space between. */
private class MergeList {
    private val texts = TextList()

    fun read(reader: JsonReader) = reader.items {
        val rank = texts.size / 2
        if (reader.isList()) {
            reader.items { texts.add(reader.string()) }
        } else {
            reader.string().split(' ').forEach(texts::add)
        }
        if (texts.size != 2 * rank + 2) bad(rank)
    }

    /** The merges by the ids that [vocabulary] gives the texts. */
    fun resolve(vocabulary: TokenTable): MergeTable {
        val merges = MergeTable(texts.size / 2)
        for (rank in 0 until texts.size / 2) {
            val begin = texts.begin(2 * rank)
            val middle = texts.end(2 * rank)
            val end = texts.end(2 * rank + 1)
            val left = vocabulary.find(texts.bytes, begin, middle)
            val right = vocabulary.find(texts.bytes, middle, end)
            val both = vocabulary.find(texts.bytes, begin, end)
            if (minOf(left, right, both) == TokenTable.NONE) bad(rank)
            merges.add(left, right, rank, both)
        }
        return merges
    }

    private fun bad(rank: Int): Nothing = throw EdgekitException(
        "model.merges.$rank: not two tokens of the vocabulary that make a third", ErrorKind.BAD_FIELD,
    )
}

/** Refuse what is whole, but not known here. */
internal fun unsupported(what: String): Nothing =
    throw EdgekitException("$what. Not known here: byte-level BPE and SentencePiece BPE are", ErrorKind.UNSUPPORTED)
