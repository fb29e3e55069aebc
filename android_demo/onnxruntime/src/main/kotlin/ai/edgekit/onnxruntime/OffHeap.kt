package ai.edgekit.onnxruntime

import android.os.SharedMemory
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Zeroed memory outside the Java heap, on which Android counts direct buffers; no file is behind it. */
internal class OffHeap(size: Int) : AutoCloseable {
    private val mapped: ByteBuffer = SharedMemory.create("edgekit-cache", size).use { it.mapReadWrite() }

    val bytes: ByteBuffer get() = mapped.duplicate().order(ByteOrder.nativeOrder())

    override fun close() {
        SharedMemory.unmap(mapped)
    }
}
