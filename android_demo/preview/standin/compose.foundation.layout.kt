package androidx.compose.foundation.layout

import ai.edgekit.preview.Composition
import ai.edgekit.preview.View
import androidx.compose.runtime.Composable
import androidx.compose.ui.Modifier
import androidx.compose.ui.unit.Dp
import androidx.compose.ui.unit.dp

object Arrangement {
    class Spaced(val space: Dp)

    fun spacedBy(space: Dp) = Spaced(space)
}

class PaddingValues(val all: Dp)

fun Modifier.fillMaxWidth() = with("width:100%")

fun Modifier.fillMaxSize() = with("width:100%;height:100%")

fun Modifier.imePadding() = this

fun Modifier.padding(all: Dp) = with("padding:$all")

fun Modifier.padding(horizontal: Dp = 0.dp, vertical: Dp = 0.dp) = with("padding:$vertical $horizontal")

fun Modifier.padding(paddingValues: PaddingValues) = padding(paddingValues.all)

@Composable
fun Column(
    modifier: Modifier = Modifier,
    verticalArrangement: Arrangement.Spaced = Arrangement.spacedBy(0.dp),
    content: @Composable () -> Unit,
) = Composition.add(View("column", modifier.with("gap:${verticalArrangement.space}").style), content)

@Composable
fun Row(
    modifier: Modifier = Modifier,
    horizontalArrangement: Arrangement.Spaced = Arrangement.spacedBy(0.dp),
    content: @Composable () -> Unit,
) = Composition.add(View("row", modifier.with("gap:${horizontalArrangement.space}").style), content)
