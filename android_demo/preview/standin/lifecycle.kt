package androidx.lifecycle

import android.app.Application

open class AndroidViewModel(private val application: Application) {
    @Suppress("UNCHECKED_CAST")
    fun <T : Application> getApplication(): T = application as T

    protected open fun onCleared() = Unit
}
