package android.os

import java.io.Closeable
import java.io.File
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.channels.FileChannel

/** Android's own (API 27), over Linux's shared memory: mapped outside the heap, no file of a disk behind it. */
public class SharedMemory private constructor(private val memory: RandomAccessFile, private val size: Int) : Closeable {
    public fun mapReadWrite(): ByteBuffer = memory.channel.map(FileChannel.MapMode.READ_WRITE, 0, size.toLong())

    override fun close() {
        memory.close()
    }

    public companion object {
        private val unsafe = Class.forName("sun.misc.Unsafe").getDeclaredField("theUnsafe")
            .apply { isAccessible = true }.get(null)
        private val unmapping = unsafe.javaClass.getMethod("invokeCleaner", ByteBuffer::class.java)

        public fun create(name: String, size: Int): SharedMemory {
            val file = File.createTempFile(name, null, File("/dev/shm"))
            val memory = RandomAccessFile(file, "rw")
            file.delete()
            memory.setLength(size.toLong())
            return SharedMemory(memory, size)
        }

        /** At once, as on a phone: whoever uses [buffer] afterwards ends the process. */
        public fun unmap(buffer: ByteBuffer) {
            unmapping.invoke(unsafe, buffer)
        }
    }
}
