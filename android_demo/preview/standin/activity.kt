package androidx.activity

import ai.edgekit.preview.Composition
import android.app.Application
import android.os.Bundle
import androidx.lifecycle.AndroidViewModel

open class ComponentActivity {
    val application: Application get() = Composition.application

    protected open fun onCreate(savedInstanceState: Bundle?) = Unit

    open fun onTrimMemory(level: Int) = check(level >= 0)

    /** What Android does when the app is opened. */
    fun start() = onCreate(null)
}

@Suppress("UnusedReceiverParameter")
fun ComponentActivity.enableEdgeToEdge() = Unit

inline fun <reified T : AndroidViewModel> ComponentActivity.viewModels(): Lazy<T> =
    lazy { T::class.java.getConstructor(Application::class.java).newInstance(application) }
