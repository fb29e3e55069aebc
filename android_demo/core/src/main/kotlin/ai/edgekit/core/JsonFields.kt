package ai.edgekit.core

/**
 * One JSON object whose fields must have the types asked for; the first that has not is named.
 *
 * Null is a value: only what ends in OrNull takes it, and a field's absence, for null.
 */
public class JsonFields(public val members: Map<String, Any?>, private val path: String = "") {
    public val names: Set<String> get() = members.keys

    public operator fun contains(name: String): Boolean = name in members

    public fun text(name: String): String = members[name] as? String ?: wrong(name, "a text")

    public fun textOrNull(name: String): String? = members[name]?.let { text(name) }

    /** A text of at least one character. */
    public fun filled(name: String): String = text(name).ifEmpty { wrong(name, "a text with something in it") }

    public fun number(name: String): Double = (members[name] as? Number)?.toDouble() ?: wrong(name, "a number")

    public fun numberOrNull(name: String): Double? = members[name]?.let { number(name) }

    /** A whole number within [bounds]. */
    public fun whole(name: String, bounds: LongRange): Long =
        (members[name] as? Long)?.takeIf { it in bounds }
            ?: wrong(name, "a whole number from ${bounds.first} to ${bounds.last}")

    /** A whole number from 1 to [most]. */
    public fun count(name: String, most: Int = Int.MAX_VALUE): Int = whole(name, 1L..most).toInt()

    public fun countOrNull(name: String, most: Int): Int? = members[name]?.let { count(name, most) }

    /** A whole number from 0 that fits an Int, as a token id is. */
    public fun index(name: String): Int = whole(name, INDICES).toInt()

    public fun tokenIds(name: String): List<Int> = asTokenIds(members[name]) ?: wrong(name, "a list of token ids")

    public fun tokenIdLists(name: String): List<List<Int>> =
        list(name).map { asTokenIds(it) ?: wrong(name, "a list of token id lists") }

    public fun list(name: String): List<Any?> = members[name] as? List<*> ?: wrong(name, "a list")

    public fun flag(name: String): Boolean = members[name] as? Boolean ?: wrong(name, "true or false")

    public fun flagOrNull(name: String): Boolean? = members[name]?.let { flag(name) }

    public fun fields(name: String): JsonFields = of(members[name], where(name))

    /** Refuse a version above [newest], before anything else of a document is looked at. */
    public fun refuseNewer(newest: Long) {
        val version = members["version"] as? Long ?: return
        if (version > newest) throw EdgekitException("version $version is newer than $newest", ErrorKind.NEWER)
    }

    /** Refuse the absence of one of [names]. */
    public fun needs(vararg names: String) {
        names.firstOrNull { it !in members }?.let { throw fault("${where(it)}: not there") }
    }

    /** Refuse names outside [known]: a newer writer means something this reader would ignore. */
    public fun onlyKnown(vararg known: String) {
        names.firstOrNull { it !in known }?.let { throw fault("${where(it)}: not known here") }
    }

    private fun asTokenIds(value: Any?): List<Int>? =
        (value as? List<*>)?.map { item -> (item as? Long)?.takeIf { it in INDICES }?.toInt() ?: return null }

    private fun where(name: String) = if (path.isEmpty()) name else "$path.$name"

    private fun wrong(name: String, expected: String): Nothing = throw fault("${where(name)}: not $expected")

    public companion object {
        public val INDICES: LongRange = 0L..Int.MAX_VALUE

        /** [value] as an object; [path] names it in errors. */
        @Suppress("UNCHECKED_CAST")
        public fun of(value: Any?, path: String = ""): JsonFields {
            val members = value as? Map<String, Any?> ?: throw fault("${path.ifEmpty { "file" }}: not an object")
            return JsonFields(members, path)
        }

        private fun fault(what: String) = EdgekitException(what.replace('\n', ' '), ErrorKind.BAD_FIELD)
    }
}
