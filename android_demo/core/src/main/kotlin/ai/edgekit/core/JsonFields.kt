package ai.edgekit.core

/**
 * One JSON object whose fields must have the types asked for; the first that has not is named.
 *
 * Null is a value: only what ends in OrNull takes it, and a field's absence, for null.
 */
class JsonFields(val members: Map<String, Any?>, private val path: String = "") {
    val names: Set<String> get() = members.keys

    operator fun contains(name: String): Boolean = name in members

    fun text(name: String): String = members[name] as? String ?: wrong(name, "a text")

    fun textOrNull(name: String): String? = members[name]?.let { text(name) }

    /** A text of at least one character. */
    fun filled(name: String): String = text(name).ifEmpty { wrong(name, "a text with something in it") }

    fun number(name: String): Double = (members[name] as? Number)?.toDouble() ?: wrong(name, "a number")

    fun numberOrNull(name: String): Double? = members[name]?.let { number(name) }

    /** A whole number within [bounds]. */
    fun whole(name: String, bounds: LongRange): Long =
        (members[name] as? Long)?.takeIf { it in bounds }
            ?: wrong(name, "a whole number from ${bounds.first} to ${bounds.last}")

    /** A whole number from 1 to [most]. */
    fun count(name: String, most: Int = Int.MAX_VALUE): Int = whole(name, 1L..most).toInt()

    fun countOrNull(name: String, most: Int): Int? = members[name]?.let { count(name, most) }

    /** A whole number from 0 that fits an Int, as a token id is. */
    fun index(name: String): Int = whole(name, INDICES).toInt()

    fun tokenIds(name: String): List<Int> = asTokenIds(members[name]) ?: wrong(name, "a list of token ids")

    fun tokenIdLists(name: String): List<List<Int>> =
        list(name).map { asTokenIds(it) ?: wrong(name, "a list of token id lists") }

    fun list(name: String): List<Any?> = members[name] as? List<*> ?: wrong(name, "a list")

    fun flag(name: String): Boolean = members[name] as? Boolean ?: wrong(name, "true or false")

    fun flagOrNull(name: String): Boolean? = members[name]?.let { flag(name) }

    fun fields(name: String): JsonFields = of(members[name], where(name))

    /** Refuse a version above [newest], before anything else of a document is looked at. */
    fun refuseNewer(newest: Long) {
        val version = members["version"] as? Long ?: return
        if (version > newest) throw EdgekitException("version $version is newer than $newest", ErrorKind.NEWER)
    }

    /** Refuse the absence of one of [names]. */
    fun needs(vararg names: String) {
        names.firstOrNull { it !in members }?.let { throw fault("${where(it)}: not there") }
    }

    /** Refuse names outside [known]: a newer writer means something this reader would ignore. */
    fun onlyKnown(vararg known: String) {
        names.firstOrNull { it !in known }?.let { throw fault("${where(it)}: not known here") }
    }

    private fun asTokenIds(value: Any?): List<Int>? =
        (value as? List<*>)?.map { item -> (item as? Long)?.takeIf { it in INDICES }?.toInt() ?: return null }

    private fun where(name: String) = if (path.isEmpty()) name else "$path.$name"

    private fun wrong(name: String, expected: String): Nothing = throw fault("${where(name)}: not $expected")

    companion object {
        val INDICES = 0L..Int.MAX_VALUE

        /** [value] as an object; [path] names it in errors. */
        @Suppress("UNCHECKED_CAST")
        fun of(value: Any?, path: String = ""): JsonFields {
            val members = value as? Map<String, Any?> ?: throw fault("${path.ifEmpty { "file" }}: not an object")
            return JsonFields(members, path)
        }

        private fun fault(what: String) = EdgekitException(what.replace('\n', ' '), ErrorKind.BAD_FIELD)
    }
}
