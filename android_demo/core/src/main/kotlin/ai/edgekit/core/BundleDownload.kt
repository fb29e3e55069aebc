package ai.edgekit.core

import java.io.ByteArrayOutputStream
import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.InputStream
import java.net.HttpURLConnection
import java.net.SocketTimeoutException
import java.net.URI
import java.security.MessageDigest

/** What a server gives of a file: all of it, or, if [isRest], what follows the asked offset. */
public class Fetched(public val stream: InputStream, public val isRest: Boolean)

/** Gets files. Throws [IOException] if one does not come. */
public fun interface Fetch {
    /** The file at [url] from byte [offset] on, or from its start if the server knows no offsets. */
    public fun get(url: String, offset: Long): Fetched
}

/**
 * Fetches the bundle at [address], the folder that holds its manifest.json, into [folder], going on where an earlier
 * try stopped. Of the server nothing is trusted but the manifest's hashes: a file that it does not name is not asked
 * for, and one that differs is not kept. The bundle appears whole or not at all.
 */
public class BundleDownload(address: String, private val folder: File, private val fetch: Fetch = HttpFetch()) {
    private val base = base(address)
    private val partial = File(folder.path + PARTIAL)

    init {
        if (!isPrivateAddress(base)) {
            throw EdgekitException("bad address: $address. A bundle comes over https. Give the folder of its manifest.")
        }
    }

    /**
     * Returns [folder]. Blocks; [onProgress] gets the bytes that are there, and all there are to be.
     *
     * Throws [EdgekitException]: OFFLINE, TIMED_OUT, STOPPED, DAMAGED, DEVICE_FAILED (no room), or what the manifest's
     * own reader refuses.
     */
    public fun run(stop: StopSignal = StopSignal(), onProgress: (Long, Long) -> Unit = { _, _ -> }): File = try {
        val manifest = manifest()
        val whole = claimedBytes(manifest.files.values.sumOf { it.size.toDouble() })
        var done = 0L
        for ((name, entry) in manifest.files.toSortedMap()) {
            val before = done
            file(name, entry, stop) { onProgress(before + it, whole) }
            done += entry.size
        }
        folder.deleteRecursively()
        if (!partial.renameTo(folder)) throw IOException("cannot rename ${partial.name}")
        folder
    } catch (_: SocketTimeoutException) {
        throw EdgekitException("download stopped: $base. It does not answer. Go on later.", ErrorKind.TIMED_OUT)
    } catch (error: NotFetched) {
        val why = "${error.message}. Check the address and the network, then go on"
        throw EdgekitException("download stopped: $base. $why.", ErrorKind.OFFLINE)
    } catch (error: IOException) { // the phone's own storage
        throw deviceFailed(error)
    }

    /** The manifest as it is now; with another one than last time all else begins anew. */
    private fun manifest(): BundleManifest {
        val file = File(partial, BundleManifest.NAME)
        val bytes = open(BundleManifest.NAME, 0).stream.use { stream -> network { readManifest(stream) } }
        if (!file.isFile || !file.readBytes().contentEquals(bytes)) {
            partial.deleteRecursively()
            partial.mkdirs()
            file.writeBytes(bytes)
        }
        val manifest = BundleManifest.read(partial)
        val missing = claimedBytes(manifest.files.entries.sumOf { (name, entry) -> (entry.size - present(name)).toDouble() })
        if (missing > partial.usableSpace) {
            val why = "It needs ${missing / MB + 1} MB more, ${partial.usableSpace / MB} MB are free"
            throw EdgekitException("no room: $base. $why. Delete something.", ErrorKind.DEVICE_FAILED)
        }
        return manifest
    }

    private fun readManifest(stream: InputStream): ByteArray {
        val bytes = ByteArrayOutputStream()
        val buffer = ByteArray(1 shl 14)
        while (true) {
            val count = stream.read(buffer)
            if (count < 0) return bytes.toByteArray()
            bytes.write(buffer, 0, count)
            if (bytes.size() > MOST_MANIFEST) throw IOException("its manifest is larger than $MOST_MANIFEST bytes")
        }
    }

    private fun present(name: String): Long =
        maxOf(File(partial, name).length(), File(partial, name + PARTIAL).length())

    /** One file: what is missing of it is fetched and all of it hashed before it gets its name. */
    private fun file(name: String, entry: FileEntry, stop: StopSignal, onProgress: (Long) -> Unit) {
        val file = File(partial, name)
        if (file.isFile && file.length() == entry.size) return onProgress(entry.size)
        val part = File(partial, name + PARTIAL)
        part.parentFile?.mkdirs()
        if (part.length() > entry.size) part.delete()
        if (part.length() < entry.size) append(name, part, entry.size, stop, onProgress)
        if (entry.size == 0L) part.createNewFile()
        if (BundleManifest.sha256(part) != entry.sha256) {
            part.delete()
            val why = "$name is not the file that the manifest names (sha256 differs)"
            throw EdgekitException("damaged download: $base. $why. Try again, or do not use it.", ErrorKind.DAMAGED)
        }
        if (!part.renameTo(file)) throw IOException("cannot rename ${part.name}")
    }

    private fun append(name: String, part: File, size: Long, stop: StopSignal, onProgress: (Long) -> Unit) {
        val fetched = open(name, part.length())
        fetched.stream.use { stream ->
            FileOutputStream(part, fetched.isRest).use { out ->
                var there = if (fetched.isRest) part.length() else 0L
                val buffer = ByteArray(1 shl 16)
                while (there < size) {
                    stop.check()
                    val most = minOf(buffer.size.toLong(), size - there).toInt()
                    val count = network { stream.read(buffer, 0, most) }
                    if (count < 0) throw NotFetched("$name ends after $there of $size bytes")
                    out.write(buffer, 0, count)
                    there += count
                    onProgress(there)
                }
            }
        }
    }

    private fun open(name: String, offset: Long): Fetched {
        val path = name.split('/').joinToString("/") { URI(null, null, it, null).rawPath }
        return network { fetch.get("$base/$path", offset) }
    }

    /** The network's failures apart from those of the storage. */
    private fun <T> network(step: () -> T): T = try {
        step()
    } catch (error: SocketTimeoutException) {
        throw error
    } catch (error: IOException) {
        throw NotFetched(error.message ?: error.javaClass.simpleName)
    }

    private class NotFetched(why: String) : IOException(why)

    public companion object {
        private const val PARTIAL = ".partial"
        private const val MOST_MANIFEST = 1 shl 24
        private const val MB = 1_000_000
        private const val MOST_WORD = 40
        private const val HASH_DIGITS = 8
        private val PLAIN = ('a'..'z') + ('A'..'Z') + ('0'..'9') + '-' + '_'

        /** A folder's name for the bundle at [address] and for no other's: its last word, and a hash of all of it. */
        public fun folderName(address: String): String {
            val base = base(address)
            val word = base.substringAfterLast('/').filter { it in PLAIN }.take(MOST_WORD).ifEmpty { "bundle" }
            val hash = hexadecimal(MessageDigest.getInstance("SHA-256").digest(base.toByteArray()))
            return "$word-${hash.take(HASH_DIGITS)}"
        }

        private fun base(address: String) = address.trim().trimEnd('/').removeSuffix("/" + BundleManifest.NAME)
    }
}

/** [Fetch] over the platform's own HTTP client; redirects are followed as it does, never from https to http. */
public class HttpFetch(private val timeoutMs: Int = 30_000) : Fetch {
    override fun get(url: String, offset: Long): Fetched {
        val connection = URI(url).toURL().openConnection() as HttpURLConnection
        connection.connectTimeout = timeoutMs
        connection.readTimeout = timeoutMs
        connection.setRequestProperty("Accept-Encoding", "identity")
        if (offset > 0) connection.setRequestProperty("Range", "bytes=$offset-")
        val status = connection.responseCode
        if (status != HttpURLConnection.HTTP_OK && status != HttpURLConnection.HTTP_PARTIAL) {
            connection.disconnect()
            throw IOException("it answers with status $status")
        }
        return Fetched(connection.inputStream, status == HttpURLConnection.HTTP_PARTIAL)
    }
}
