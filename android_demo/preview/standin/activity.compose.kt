package androidx.activity.compose

import ai.edgekit.preview.Composition
import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContracts.CreateDocument
import android.net.Uri
import androidx.compose.runtime.Composable

@Suppress("UnusedReceiverParameter")
fun ComponentActivity.setContent(content: @Composable () -> Unit) {
    Composition.content = content
}

class Launcher {
    fun launch(input: String): Unit = throw UnsupportedOperationException("no file dialog here: $input")
}

@Composable
@Suppress("UNUSED_PARAMETER")
fun rememberLauncherForActivityResult(contract: CreateDocument, onResult: (Uri?) -> Unit) = Launcher()
