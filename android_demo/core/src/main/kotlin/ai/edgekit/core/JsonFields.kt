package ai.edgekit.core

/** One JSON object whose fields must have the types asked for; the first that has not is named. */
class JsonFields(val members: Map<String, Any?>, private val path: String = "") {
    val names: Set<String> get() = members.keys

    operator fun contains(name: String): Boolean = name in members

    fun text(name: String): String = members[name] as? String ?: wrong(name, "a text")

    fun textOrNull(name: String): String? = members[name]?.let { text(name) }

    fun number(name: String): Double = (members[name] as? Number)?.toDouble() ?: wrong(name, "a number")

    fun numberOrNull(name: String): Double? = members[name]?.let { number(name) }

    fun whole(name: String): Long = members[name] as? Long ?: wrong(name, "a whole number")

    /** A whole number above 0 that fits an Int. */
    fun positive(name: String): Int =
        whole(name).let { if (it in 1..Int.MAX_VALUE) it.toInt() else wrong(name, "a whole number above 0") }

    fun tokenIds(name: String): List<Int> = asTokenIds(members[name]) ?: wrong(name, "a list of token ids")

    fun tokenIdLists(name: String): List<List<Int>> {
        val lists = members[name] as? List<*> ?: wrong(name, "a list of token id lists")
        return lists.map { asTokenIds(it) ?: wrong(name, "a list of token id lists") }
    }

    fun list(name: String): List<Any?> = members[name] as? List<*> ?: wrong(name, "a list")

    /** True or false; false where it is absent or null. */
    fun flag(name: String): Boolean = members[name]?.let { it as? Boolean ?: wrong(name, "true or false") } ?: false

    fun fields(name: String): JsonFields = of(members[name], where(name))

    /** Refuse names outside [known]: a newer writer means something this reader would ignore. */
    fun onlyKnown(known: Set<String>) {
        names.firstOrNull { it !in known }?.let { throw EdgekitException("${where(it)}: not known here") }
    }

    private fun asTokenIds(value: Any?): List<Int>? = (value as? List<*>)?.map { item ->
        (item as? Long)?.takeIf { it in 0..Int.MAX_VALUE }?.toInt() ?: return null
    }

    private fun where(name: String) = if (path.isEmpty()) name else "$path.$name"

    private fun wrong(name: String, expected: String): Nothing = throw EdgekitException("${where(name)}: not $expected")

    companion object {
        /** [value] as an object; [path] names it in errors. */
        @Suppress("UNCHECKED_CAST")
        fun of(value: Any?, path: String = ""): JsonFields {
            val members = value as? Map<String, Any?>
                ?: throw EdgekitException("${path.ifEmpty { "file" }}: not an object")
            return JsonFields(members, path)
        }
    }
}
