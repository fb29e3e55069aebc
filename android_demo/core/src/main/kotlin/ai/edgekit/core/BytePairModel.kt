package ai.edgekit.core

import java.util.PriorityQueue

/** Byte-pair encoding of one piece: the merge learned earliest is done first, the leftmost of equals first. */
internal class BytePairModel(file: TokenizerFile) {
    private val vocabulary = file.vocabulary
    private val merges = file.merges
    private val ignoresMerges = file.model.flagOrNull("ignore_merges") ?: false
    private val bytesFallBack = file.model.flagOrNull("byte_fallback") ?: false
    private val fusesUnknown = file.model.flagOrNull("fuse_unk") ?: false
    private val unknown = file.model.textOrNull("unk_token")?.let(vocabulary::find) ?: TokenTable.NONE
    private val bytes = IntArray(256) { vocabulary.find("<0x%02X>".format(it)) }

    /** Add the ids of [piece] to [ids]. */
    fun encode(piece: String, ids: MutableList<Int>) {
        val utf8 = piece.toByteArray()
        val whole = if (ignoresMerges) vocabulary.find(utf8, 0, utf8.size) else TokenTable.NONE
        if (whole != TokenTable.NONE) ids.add(whole) else merge(symbols(utf8), ids)
    }

    /** The text that [id] stands for; null for one that is not of the model's own vocabulary. */
    fun text(id: Int): String? = vocabulary.text(id)

    /** One id a character. A character that is no token falls back to the tokens of its bytes or to the unknown one. */
    private fun symbols(utf8: ByteArray): IntArray {
        val symbols = IntArray(utf8.size)
        var count = 0
        var isUnknown = false // one is due, or more are fused into it
        var begin = 0
        while (begin < utf8.size) {
            val end = begin + length(utf8[begin])
            val id = vocabulary.find(utf8, begin, end)
            if (id != TokenTable.NONE) {
                if (isUnknown) symbols[count++] = unknown
                isUnknown = false
                symbols[count++] = id
            } else if (bytesFallBack && (begin until end).all { bytes[utf8[it].toInt() and 0xFF] != TokenTable.NONE }) {
                for (index in begin until end) symbols[count++] = bytes[utf8[index].toInt() and 0xFF]
            } else if (unknown != TokenTable.NONE) {
                if (isUnknown && !fusesUnknown) symbols[count++] = unknown
                isUnknown = true
            }
            begin = end
        }
        if (isUnknown) symbols[count++] = unknown
        return symbols.copyOf(count)
    }

    /** How many bytes the character has that begins with [lead]. */
    private fun length(lead: Byte): Int = when (lead.toInt() and 0xFF) {
        in 0x00..0x7F -> 1
        in 0xC0..0xDF -> 2
        in 0xE0..0xEF -> 3
        else -> 4
    }

    /** A linked list of symbols and a queue of the pairs that may merge, so that long pieces stay fast. */
    private fun merge(symbols: IntArray, ids: MutableList<Int>) {
        val next = IntArray(symbols.size) { it + 1 }
        val previous = IntArray(symbols.size) { it - 1 }
        val queue = PriorityQueue<Candidate>()
        fun offer(left: Int) {
            val right = if (left >= 0) next[left] else return
            if (right >= symbols.size) return
            val merge = merges.find(symbols[left], symbols[right])
            if (merge != MergeTable.FREE) queue.add(Candidate(merge, left))
        }
        for (left in symbols.indices) offer(left)
        while (true) {
            val candidate = queue.poll() ?: break
            val left = candidate.left
            if (symbols[left] == MERGED || next[left] >= symbols.size) continue
            val right = next[left]
            // The pair may have changed since it was queued.
            if (merges.find(symbols[left], symbols[right]).toInt() != candidate.merge.toInt()) continue
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

    private companion object {
        const val MERGED = -1
    }
}
