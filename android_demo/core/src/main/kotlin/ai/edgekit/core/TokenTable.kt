package ai.edgekit.core

/** Texts in UTF-8, one after the other in one array instead of an object each. */
internal class TextList {
    var bytes = ByteArray(1 shl 12)
        private set
    private var ends = IntArray(1 shl 9)

    /** How many texts there are. */
    var size = 0
        private set

    fun add(text: String) = add(text.toByteArray())

    fun add(utf8: ByteArray) {
        val begin = begin(size)
        if (begin + utf8.size > bytes.size) bytes = bytes.copyOf(maxOf(2 * bytes.size, begin + utf8.size))
        if (size == ends.size) ends = ends.copyOf(2 * size)
        utf8.copyInto(bytes, begin)
        ends[size++] = begin + utf8.size
    }

    /** Where in [bytes] the text at [index] begins. */
    fun begin(index: Int): Int = if (index == 0) 0 else ends[index - 1]

    /** Where it ends. */
    fun end(index: Int): Int = ends[index]

    operator fun get(index: Int): String = String(bytes, begin(index), end(index) - begin(index), Charsets.UTF_8)
}

/** A vocabulary: texts with their ids, found by their bytes. */
internal class TokenTable {
    private val texts = TextList()
    private var ids = IntArray(1 shl 9)
    private var slots = IntArray(1 shl 10) // a text's index + 1, 0 where none is

    /** Add [text] with [id]; false if it is there already. */
    fun add(text: String, id: Int): Boolean {
        val utf8 = text.toByteArray()
        val slot = slot(utf8, 0, utf8.size)
        if (slots[slot] != 0) return false
        if (texts.size == ids.size) ids = ids.copyOf(2 * ids.size)
        ids[texts.size] = id
        texts.add(utf8)
        slots[slot] = texts.size
        if (2 * texts.size > slots.size) grow()
        return true
    }

    /** The id of the text that lies in [source] from [begin] to [end]; [NONE] if there is none. */
    fun find(source: ByteArray, begin: Int, end: Int): Int {
        val found = slots[slot(source, begin, end)]
        return if (found == 0) NONE else ids[found - 1]
    }

    /** The id of [text]; [NONE] if there is none. */
    fun find(text: String): Int = text.toByteArray().let { find(it, 0, it.size) }

    /** The text of [id]; null if there is none. */
    fun text(id: Int): String? = (0 until texts.size).firstOrNull { ids[it] == id }?.let(texts::get)

    /** Hand every text and its id to [onText]. */
    fun forEach(onText: (String, Int) -> Unit) {
        for (index in 0 until texts.size) onText(texts[index], ids[index])
    }

    /** The largest id; [NONE] if there is none. */
    val largestId: Int get() = (0 until texts.size).maxOfOrNull { ids[it] } ?: NONE

    /** The slot of that text, or the free one where it would go. */
    private fun slot(source: ByteArray, begin: Int, end: Int): Int {
        var hash = 0
        for (index in begin until end) hash = (hash xor (source[index].toInt() and 0xFF)) * FNV_PRIME
        var slot = spread(hash) and (slots.size - 1)
        while (slots[slot] != 0 && !isAt(slots[slot] - 1, source, begin, end)) slot = (slot + 1) and (slots.size - 1)
        return slot
    }

    private fun isAt(index: Int, source: ByteArray, begin: Int, end: Int): Boolean {
        val mine = texts.begin(index)
        if (texts.end(index) - mine != end - begin) return false
        for (offset in 0 until end - begin) if (texts.bytes[mine + offset] != source[begin + offset]) return false
        return true
    }

    private fun grow() {
        slots = IntArray(4 * slots.size)
        for (index in 0 until texts.size) slots[slot(texts.bytes, texts.begin(index), texts.end(index))] = index + 1
    }

    companion object {
        const val NONE = -1
        private const val FNV_PRIME = 16_777_619
    }
}

/** Which pairs of tokens merge, in what order, into what. The pair learned earliest has the lowest rank. */
internal class MergeTable(expected: Int) {
    private val mask = 4 * maxOf(1, expected).takeHighestOneBit() - 1
    private val pairs = LongArray(mask + 1) { FREE }
    private val merges = LongArray(mask + 1)

    /** Merge [left] and [right] into [id]; of a pair given twice the last counts. */
    fun add(left: Int, right: Int, rank: Int, id: Int) {
        val pair = pair(left, right)
        val slot = slot(pair)
        pairs[slot] = pair
        merges[slot] = (rank.toLong() shl 32) or id.toLong()
    }

    /** Rank (shl 32) and id of what [left] and [right] merge into; [FREE] if they do not. */
    fun find(left: Int, right: Int): Long {
        val slot = slot(pair(left, right))
        return if (pairs[slot] == FREE) FREE else merges[slot]
    }

    private fun slot(pair: Long): Int {
        var slot = spread((pair * MIX ushr 32).toInt()) and mask
        while (pairs[slot] != FREE && pairs[slot] != pair) slot = (slot + 1) and mask
        return slot
    }

    private fun pair(left: Int, right: Int): Long = (left.toLong() shl 32) or right.toLong()

    companion object {
        const val FREE = -1L
        private const val MIX = -7046029254386353131 // 2^64 divided by the golden ratio
    }
}

/** Short texts differ in few bits; here each bit moves all others, so that a table's slots fill evenly. */
private fun spread(hash: Int): Int {
    val half = (hash xor (hash ushr 15)) * -2_048_144_789
    val whole = (half xor (half ushr 13)) * -1_028_477_387
    return whole xor (whole ushr 16)
}
