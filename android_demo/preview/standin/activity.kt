package androidx.activity

import android.app.Activity
import android.app.Application
import androidx.lifecycle.AndroidViewModel

open class ComponentActivity : Activity() {
    /** What Android does when the app is opened. */
    fun start() = onCreate(null)
}

@Suppress("UnusedReceiverParameter")
fun ComponentActivity.enableEdgeToEdge() = Unit

inline fun <reified T : AndroidViewModel> ComponentActivity.viewModels(): Lazy<T> =
    lazy { T::class.java.getConstructor(Application::class.java).newInstance(application) }
