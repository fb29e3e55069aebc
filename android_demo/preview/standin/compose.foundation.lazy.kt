package androidx.compose.foundation.lazy

import androidx.compose.foundation.layout.Arrangement
import androidx.compose.foundation.layout.Column
import androidx.compose.runtime.Composable
import androidx.compose.ui.Modifier
import androidx.compose.ui.unit.dp

object LazyListScope

/** Not lazy here: every row is composed, also those below the screen's end. */
@Composable
fun LazyColumn(
    modifier: Modifier = Modifier,
    verticalArrangement: Arrangement.Spaced = Arrangement.spacedBy(0.dp),
    content: LazyListScope.() -> Unit,
) = Column(modifier, verticalArrangement) { LazyListScope.content() }

@Suppress("UnusedReceiverParameter")
fun <T> LazyListScope.items(items: List<T>, itemContent: @Composable (T) -> Unit) = items.forEach(itemContent)
