package ai.edgekit.core

/** Anything edgekit refuses or cannot do. The message is one line: what failed, why, what to do. */
open class EdgekitException(message: String) : Exception(message)

/** A bundle, or a file in it, that cannot be used. */
class BundleException(message: String) : EdgekitException(message)
