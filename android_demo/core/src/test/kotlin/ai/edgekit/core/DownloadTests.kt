package ai.edgekit.core

import java.io.ByteArrayInputStream
import java.io.File
import java.io.IOException
import java.io.InputStream
import kotlin.test.assertContentEquals
import kotlin.test.assertEquals
import kotlin.test.assertFalse
import kotlin.test.assertTrue

private const val ADDRESS = "https://example.com/bundles/one"

/** A server of the files of [folder] that gives at most [most] bytes of each request, and notes what it was asked. */
private class Shelf(private val folder: File, private val most: Int = Int.MAX_VALUE, val knowsOffsets: Boolean = true) : Fetch {
    val asked = ArrayList<Pair<String, Long>>()
    var change: (String, ByteArray) -> ByteArray = { _, bytes -> bytes }

    override fun get(url: String, offset: Long): Fetched {
        val name = url.removePrefix("$ADDRESS/")
        asked.add(name to offset)
        val from = if (knowsOffsets) offset.toInt() else 0
        val bytes = change(name, File(folder, name).readBytes())
        val rest = bytes.copyOfRange(minOf(from, bytes.size), bytes.size)
        return Fetched(if (name == BundleManifest.NAME) ByteArrayInputStream(rest) else CutOff(rest, most), knowsOffsets && offset > 0)
    }
}

/** Breaks off after [most] bytes, as a network does. */
private class CutOff(bytes: ByteArray, private var most: Int) : InputStream() {
    private val whole = ByteArrayInputStream(bytes)

    override fun read(): Int = throw UnsupportedOperationException()

    override fun read(buffer: ByteArray, offset: Int, length: Int): Int {
        if (most == 0) throw IOException("the network is gone")
        val count = whole.read(buffer, offset, minOf(length, most))
        most -= maxOf(0, count)
        return count
    }
}

/** Bundles from a server that is not trusted. */
fun downloadTests(data: TestData): Tests = mapOf(
    "download: a bundle comes whole, and nothing the manifest does not name is asked for" to {
        val (bundle, folder) = makeBundle(data) to target()
        val shelf = Shelf(bundle)
        val seen = ArrayList<Pair<Long, Long>>()
        BundleDownload("$ADDRESS/manifest.json", folder, shelf).run { done, whole -> seen.add(done to whole) }
        assertEquals(BundleManifest.read(bundle), Bundle.open(folder).manifest)
        assertEquals(seen.last().first, seen.last().second)
        val filled = BundleManifest.read(bundle).files.filterValues { it.size > 0 }.keys.sorted()
        assertEquals(listOf(BundleManifest.NAME) + filled, shelf.asked.map { it.first })
        assertFalse(File(folder.path + ".partial").exists())
    },
    "download: each address has a folder of its own, however it is written and whatever it ends with" to {
        assertEquals("one-c3683787", BundleDownload.folderName(ADDRESS))
        for (same in listOf("$ADDRESS/", " $ADDRESS/manifest.json\n")) {
            assertEquals(BundleDownload.folderName(ADDRESS), BundleDownload.folderName(same))
        }
        val far = "https://example.com/"
        val names = listOf(ADDRESS, "https://example.org/bundles/one", far, far + "\u6a21\u578b", far + "a".repeat(300), "$far..")
            .map(BundleDownload::folderName)
        assertEquals(names.size, names.toSet().size)
        assertTrue(names.all { Regex("[a-z]{1,40}-[0-9a-f]{8}").matches(it) }, "$names")
    },
    "download: it goes on where it stopped, with servers that know offsets and that do not" to {
        for (knowsOffsets in listOf(true, false)) {
            val (bundle, folder) = makeBundle(data) to target()
            val half = (File(bundle, "tokenizer.json").length() / 2).toInt()
            val cut = Shelf(bundle, half, knowsOffsets)
            assertEquals(ErrorKind.OFFLINE, refused { BundleDownload(ADDRESS, folder, cut).run() }?.kind)
            assertFalse(folder.exists())
            val again = Shelf(bundle, knowsOffsets = knowsOffsets)
            BundleDownload(ADDRESS, folder, again).run()
            Bundle.open(folder)
            assertTrue("tokenizer.json" to half.toLong() in again.asked, "${again.asked}")
            assertFalse(again.asked.any { it.first == "routing.json" }, "it was there already")
        }
    },
    "download: a file that is not the manifest's is not kept" to {
        val (bundle, folder) = makeBundle(data) to target()
        val lying = Shelf(bundle)
        lying.change = { name, bytes -> if (name == "model.onnx") bytes.reversedArray() else bytes }
        assertEquals(ErrorKind.DAMAGED, refused { BundleDownload(ADDRESS, folder, lying).run() }?.kind)
        assertFalse(folder.exists() || File(folder.path + ".partial/model.onnx").exists())
        BundleDownload(ADDRESS, folder, Shelf(bundle)).run() // and is fetched again
        Bundle.open(folder)
        val longer = Shelf(bundle)
        longer.change = { name, bytes -> if (name == "model.onnx") bytes + bytes else bytes }
        val other = target()
        BundleDownload(ADDRESS, other, longer).run() // what goes beyond its size is not read
        assertContentEquals(File(bundle, "model.onnx").readBytes(), File(other, "model.onnx").readBytes())
    },
    "download: another bundle under the same address begins anew" to {
        val (bundle, folder) = makeBundle(data) to target()
        assertEquals(ErrorKind.OFFLINE, refused { BundleDownload(ADDRESS, folder, Shelf(bundle, 4)).run() }?.kind)
        File(bundle, "model.onnx").writeText("another")
        writeManifest(bundle)
        BundleDownload(ADDRESS, folder, Shelf(bundle)).run()
        assertEquals("another", File(folder, "model.onnx").readText())
    },
    "download: sizes that no phone has room for are refused before a file is asked for" to {
        val bundle = makeBundle(data)
        val entry = mapOf("sha256" to "0".repeat(64), "size" to (1L shl 48))
        writeManifest(bundle, mapOf("files" to (1..33_000).associate { "m$it" to entry }))
        val shelf = Shelf(bundle)
        assertTrue("no room" in refusal { BundleDownload(ADDRESS, target(), shelf).run() })
        assertEquals(listOf(BundleManifest.NAME), shelf.asked.map { it.first })
    },
    "download: names that leave the folder, addresses in the clear and a stopped one are refused" to {
        val bundle = makeBundle(data)
        val outside = Shelf(bundle)
        outside.change = { name, bytes ->
            if (name != BundleManifest.NAME) bytes else bytes.decodeToString().replace("model.onnx", "../model.onnx").toByteArray()
        }
        assertEquals(ErrorKind.BAD_FIELD, refused { BundleDownload(ADDRESS, target(), outside).run() }?.kind)
        for (address in listOf("http://example.com/b", "file:///etc", "", "example.com")) {
            assertTrue("https" in refusal { BundleDownload(address, target()) })
        }
        val stop = StopSignal().apply { stop() }
        assertEquals(ErrorKind.STOPPED, refused { BundleDownload(ADDRESS, target(), Shelf(bundle)).run(stop) }?.kind)
    },
)

private fun target(): File {
    val parent = kotlin.io.path.createTempDirectory("edgekit-download").toFile()
    Runtime.getRuntime().addShutdownHook(Thread { parent.deleteRecursively() })
    return File(parent, "one")
}
