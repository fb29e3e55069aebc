package ai.edgekit.demo

import android.content.ComponentCallbacks2
import android.os.Bundle
import androidx.activity.ComponentActivity
import androidx.activity.compose.setContent
import androidx.activity.enableEdgeToEdge
import androidx.activity.viewModels
import androidx.compose.foundation.isSystemInDarkTheme
import androidx.compose.foundation.layout.Arrangement
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.Row
import androidx.compose.foundation.layout.fillMaxSize
import androidx.compose.foundation.layout.imePadding
import androidx.compose.foundation.layout.padding
import androidx.compose.material3.FilterChip
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.Scaffold
import androidx.compose.material3.Text
import androidx.compose.material3.darkColorScheme
import androidx.compose.material3.lightColorScheme
import androidx.compose.runtime.Composable
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableIntStateOf
import androidx.compose.runtime.saveable.rememberSaveable
import androidx.compose.runtime.setValue
import androidx.compose.ui.Modifier
import androidx.compose.ui.res.stringResource
import androidx.compose.ui.unit.dp

/** The app's only activity. */
class MainActivity : ComponentActivity() {
    private val model: DemoModel by viewModels()

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        enableEdgeToEdge()
        setContent {
            MaterialTheme(colorScheme = if (isSystemInDarkTheme()) darkColorScheme() else lightColorScheme()) {
                Demo(model)
            }
        }
    }

    override fun onTrimMemory(level: Int) {
        super.onTrimMemory(level)
        if (level >= ComponentCallbacks2.TRIM_MEMORY_BACKGROUND) model.release()
    }
}

private val PAGES =
    listOf(R.string.page_ask, R.string.page_models, R.string.page_self_test, R.string.page_cloud)

/** The bundle's name, four pages to choose from, and the one chosen. */
@Composable
private fun Demo(model: DemoModel) {
    var page by rememberSaveable { mutableIntStateOf(0) }
    Scaffold { insets ->
        Column(
            Modifier.fillMaxSize().padding(insets).imePadding().padding(horizontal = 16.dp),
            verticalArrangement = Arrangement.spacedBy(8.dp),
        ) {
            Text(model.title, style = MaterialTheme.typography.titleMedium)
            Row(horizontalArrangement = Arrangement.spacedBy(8.dp)) {
                PAGES.forEachIndexed { index, name ->
                    FilterChip(selected = page == index, onClick = { page = index }, label = { Text(stringResource(name)) })
                }
            }
            model.error?.let { Text(it, color = MaterialTheme.colorScheme.error) }
            when (page) {
                0 -> AskPage(model)
                1 -> ModelsPage(model)
                2 -> SelfTestPage(model)
                else -> CloudPage(model)
            }
        }
    }
    model.requestToConfirm?.let { ConsentDialog(it, model) }
}
