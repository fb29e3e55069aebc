package ai.edgekit.core

import java.util.PriorityQueue

/**
 * Byte-pair encoding of one piece: the merge learned earliest is done first, the leftmost of equals first.
 *
 * [merges] maps a pair of ids (left shl 32 or right) to its rank (shl 32) and the id it becomes.
 */
class BytePairModel private constructor(
    private val vocabulary: Map<String, Int>,
    private val merges: Map<Long, Long>,
    private val ignoresMerges: Boolean,
    private val bytesFallBack: Boolean,
    private val unknown: Int?,
    private val fusesUnknown: Boolean,
) {
    /** Add the ids of [piece], spelled with [ByteAlphabet], to [ids]. */
    fun encode(piece: String, ids: MutableList<Int>) {
        val whole = if (ignoresMerges) vocabulary[piece] else null
        if (whole != null) ids.add(whole) else merge(symbols(piece), ids)
    }

    /** One id a character. A character that is no token falls back to the tokens of its bytes or to the unknown one. */
    private fun symbols(piece: String): IntArray {
        val symbols = ArrayList<Int>(piece.length)
        var endsUnknown = false
        for (character in piece) {
            val known = vocabulary[character.toString()]?.let(::listOf) ?: fallBack(character)
            if (known != null) {
                symbols.addAll(known)
            } else if (unknown != null && !(fusesUnknown && endsUnknown)) {
                symbols.add(unknown)
            }
            endsUnknown = known == null
        }
        return symbols.toIntArray()
    }

    private fun fallBack(character: Char): List<Int>? {
        if (!bytesFallBack) return null
        return character.toString().toByteArray().map { byte ->
            vocabulary["<0x%02X>".format(byte.toInt() and 0xFF)] ?: return null
        }
    }

    /** A linked list of symbols and a queue of the pairs that may merge, so that long pieces stay fast. */
    private fun merge(symbols: IntArray, ids: MutableList<Int>) {
        val next = IntArray(symbols.size) { it + 1 }
        val previous = IntArray(symbols.size) { it - 1 }
        val queue = PriorityQueue<Candidate>()
        fun offer(left: Int) {
            val right = if (left >= 0) next[left] else return
            if (right >= symbols.size) return
            val merge = merges[pair(symbols[left], symbols[right])] ?: return
            queue.add(Candidate(merge, left))
        }
        for (left in symbols.indices) offer(left)
        while (true) {
            val candidate = queue.poll() ?: break
            val left = candidate.left
            if (symbols[left] == MERGED || next[left] >= symbols.size) continue
            val right = next[left]
            // The pair may have changed since it was queued.
            val merge = merges[pair(symbols[left], symbols[right])]
            if (merge?.toInt() != candidate.merge.toInt()) continue
            symbols[left] = candidate.merge.toInt()
            symbols[right] = MERGED
            next[left] = next[right]
            if (next[left] < symbols.size) previous[next[left]] = left
            offer(previous[left])
            offer(left)
        }
        for (symbol in symbols) if (symbol != MERGED) ids.add(symbol)
    }

    /** [merge] is a rank (shl 32) and the id the pair becomes; [left] is where the pair begins. */
    private class Candidate(val merge: Long, val left: Int) : Comparable<Candidate> {
        override fun compareTo(other: Candidate): Int {
            val byRank = (merge ushr 32).compareTo(other.merge ushr 32)
            return if (byRank != 0) byRank else left.compareTo(other.left)
        }
    }

    companion object {
        private const val MERGED = -1

        private fun pair(left: Int, right: Int): Long = (left.toLong() shl 32) or right.toLong()

        /** The model of a parsed tokenizer.json. Throws [EdgekitException] for one that is no plain BPE. */
        fun of(fields: JsonFields): BytePairModel {
            val type = fields.textOrNull("type") ?: "BPE"
            if (type != "BPE") throw EdgekitException("model.type: $type is not known here")
            if ((fields.numberOrNull("dropout") ?: 0.0) != 0.0) throw EdgekitException("model.dropout: it is random")
            for (name in listOf("continuing_subword_prefix", "end_of_word_suffix")) {
                if (!fields.textOrNull(name).isNullOrEmpty()) throw EdgekitException("model.$name: not known here")
            }
            val words = fields.fields("vocab")
            val vocabulary = words.names.associateWith { words.index(it) }
            return BytePairModel(
                vocabulary,
                merges(fields.list("merges"), vocabulary),
                fields.flagOrNull("ignore_merges") ?: false,
                fields.flagOrNull("byte_fallback") ?: false,
                fields.textOrNull("unk_token")?.let { vocabulary[it] },
                fields.flagOrNull("fuse_unk") ?: false,
            )
        }

        private fun merges(entries: List<Any?>, vocabulary: Map<String, Int>): Map<Long, Long> {
            val merges = HashMap<Long, Long>(entries.size * 2)
            entries.forEachIndexed { rank, entry ->
                val parts = if (entry is String) entry.split(' ') else entry as? List<*> ?: emptyList<Any?>()
                val ids = parts.map { vocabulary[it] }
                val merged = vocabulary[parts.joinToString("")]
                if (ids.size != 2 || null in ids || merged == null) {
                    throw EdgekitException("model.merges.$rank: it merges tokens that are not in the vocabulary")
                }
                merges[pair(ids[0]!!, ids[1]!!)] = (rank.toLong() shl 32) or merged.toLong()
            }
            return merges
        }
    }
}
