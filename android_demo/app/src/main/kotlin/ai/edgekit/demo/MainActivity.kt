package ai.edgekit.demo

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
}

private val PAGES = listOf("Ask", "Self-test", "Cloud")

/** The bundle's name, three pages to choose from, and the one chosen. */
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
                    FilterChip(selected = page == index, onClick = { page = index }, label = { Text(name) })
                }
            }
            model.error?.let { Text(it, color = MaterialTheme.colorScheme.error) }
            when (page) {
                0 -> AskPage(model)
                1 -> SelfTestPage(model)
                else -> CloudPage(model)
            }
        }
    }
    model.requestToConfirm?.let { ConsentDialog(it, model) }
}
