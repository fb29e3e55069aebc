package ai.edgekit.core

import java.io.File

/** What is read of a bundle's files at most, in bytes: how much memory they fill is not for a stranger to say. */
internal object FileLimits {
    const val DOCUMENT = 4_000_000L
    const val TOKENIZER = 128_000_000L
    const val RECORDS = 64_000_000L
}

/** This file, unless it has more than [most] bytes. */
internal fun File.upTo(most: Long): File =
    if (length() <= most) this else throw EdgekitException("it has ${length()} bytes, more than $most", ErrorKind.DAMAGED)
